"""New uploads of tus 1.0.0 that are refused: the key is as free as before."""

import base64

import pytest
from contract.peers import check_refusal
from contract.server import Relay

TUS = ("Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream")


def named(key: str) -> str:
    """The field that says under which key receivers ask for the file."""
    return f"Upload-Metadata: key {base64.b64encode(key.removeprefix('/').encode()).decode()}"


@pytest.mark.parametrize("length", [0, 3])
@pytest.mark.parametrize("checksum", [(), ("Upload-Checksum: crc32 AAAAAA==",)])
def test_a_first_part_that_is_longer_than_the_file(
    relay: Relay, key: str, length: int, checksum: tuple[str, ...]
) -> None:
    """It is refused, also for a file of nothing, and nothing is begun."""
    peer = relay.connect()
    peer.ask("POST", "/-/tus", *TUS, *checksum, named(key), f"Upload-Length: {length}", body=b"more")
    check_refusal(peer.answer(), 413, f"{length} bytes")
    assert relay.ask("HEAD", key).status == 404
