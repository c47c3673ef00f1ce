"""Presigned URLs: a file goes on to an S3 while it is being sent, without anybody's keys at the relay."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.peers import check_refusal
from forward.conftest import Serve
from forward.support import (
    BODY,
    FORWARDS,
    SIZE,
    TYPE,
    Receiver,
    Sender,
    begin,
    logged,
    send,
    sha256,
    sha256_of_zeros,
    zeros,
)
from forward.targets import ACCESS_KEY, MotoS3, SignedS3, StoredObject
from harness import BOUND, Server, until

MEBI = 1 << 20
SIZES = {"nothing": 0, "1 MB": MEBI, "64 MB": 64 * MEBI}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoS3]:
    """moto's S3."""
    with MotoS3(tmp_path_factory.mktemp("moto") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def signed() -> Iterator[SignedS3]:
    """An S3 that checks signatures."""
    with SignedS3() as server:
        yield server


@pytest.fixture
def patient(serve: Serve) -> Server:
    """A server whose targets may think for long."""
    flags = ("--put-ttl", "0.3", "--get-ttl", "0.05", "--get-wait-timeout", "30", "--forward-timeout", "100")
    return serve("--store", "memory", "--store", "disk:{folder}/store", *FORWARDS, *flags)


@pytest.mark.parametrize("receivers", [0, 1, 2])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_an_object_is_what_was_sent(size: int, receivers: int, moto: MotoS3, patient: Server, tmp_path: Path) -> None:
    """With its signed type; the receivers' files are the same."""
    file = tmp_path / "file"
    body = (BODY * (size // SIZE + 1))[:size]
    file.write_bytes(body)
    key = f"{size} of {receivers}"
    there = [Receiver(patient, "/k", tmp_path / f"got{n}") for n in range(receivers)]
    with logged(patient, outcome="delivered", deliveries=receivers, forward="127.0.0.1:forwarded"):
        many = f"?readers={receivers}" if receivers else "?wait=0"
        send(patient, f"/k{many}", file, to=moto.presign(key, ContentType=TYPE))
        for receiver in there:
            receiver.check(body)
    assert moto.object(key) == StoredObject(size, sha256(body), TYPE, {})


@pytest.mark.parametrize("receivers", [0, 1])
@pytest.mark.parametrize("how", ["chunked", "form"])
def test_an_object_of_unknown_length(
    how: str, receivers: int, moto: MotoS3, patient: Server, file: Path, tmp_path: Path
) -> None:
    """It goes by the disk; its type is that of the file."""
    key = f"{how} {receivers}"
    there = [Receiver(patient, "/k", tmp_path / f"got{n}") for n in range(receivers)]
    url = moto.presign(key, ContentType=TYPE)
    send(patient, "/k?forward=spool", file, to=url, how=how, status=201)
    for receiver in there:
        receiver.check(BODY)
    assert moto.object(key) == StoredObject(SIZE, sha256(BODY), TYPE, {})


def test_a_gibibyte_with_a_receiver(moto: MotoS3, patient: Server, tmp_path: Path) -> None:
    """The object and what the receiver gets are the same."""
    size = 1 << 30
    with subprocess.Popen(
        ["sh", "-c", f"curl -sSf -m 200 {patient.url('/k')} | sha256sum"], stdout=subprocess.PIPE
    ) as receiver:
        until(lambda: patient.gauges()["key_waiters"] == 1, "the receiver waits")
        url = moto.presign("large", ContentType=TYPE)
        reply = Sender(patient, "/k", zeros(tmp_path, size), "--max-time", "200", to=url).reply()
        assert reply.status == 200, reply
        out, _ = receiver.communicate(timeout=BOUND)
    digest = sha256_of_zeros(size)
    assert out.decode().split() == [digest, "-"]
    assert moto.object("large") == StoredObject(size, digest, TYPE, {})


def test_an_object_of_unknown_length_is_refused_without_a_spool(moto: MotoS3, patient: Server) -> None:
    """411, and there is no object."""
    url = moto.presign("unknown")
    check_refusal(begin(patient, "/k", "Expect: 100-continue", length=None, to=url).answer(), 411)
    assert moto.object("unknown") is None


@pytest.mark.parametrize(
    "key",
    [
        "plain",
        "a b",
        "a+b",
        "a~b",
        "grüße/日本",
        "a//b",
        "per%cent%20",
        "q?u=e&r=y#",
        "'()*!$,;:@=",
        "/lead",
        "./a/../b",
    ],
)
def test_a_signature_holds_over_what_comes_on_the_wire(key: str, signed: SignedS3, beam: Server, file: Path) -> None:
    """Whatever the key has in it."""
    assert "127.0.0.1" in send(beam, "/k", file, to=signed.presign(key, ContentType=TYPE))
    assert signed.object(key) == StoredObject(SIZE, sha256(BODY), TYPE, {})


@pytest.mark.parametrize("how", ["raw", "form"])
def test_signed_headers_go_along(how: str, signed: SignedS3, beam: Server, file: Path) -> None:
    """Metadata that the URL was signed for."""
    url = signed.presign("meta" + how, ContentType=TYPE, Metadata={"name": "a  b+~%/;x", "two": "2"})
    given = ("-H", "X-Forward-Header-x-amz-meta-name: a  b+~%/;x", "-H", "X-Forward-Header-X-Amz-Meta-Two: 2")
    spool = how == "form"
    send(beam, "/k?forward=spool" if spool else "/k", file, *given, to=url, how=how, status=201 if spool else 200)
    found = signed.object("meta" + how)
    assert found is not None
    assert (found.sha256, found.metadata) == (sha256(BODY), {"name": "a  b+~%/;x", "two": "2"})


@pytest.mark.parametrize("receives", [False, True], ids=["alone", "with a receiver"])
@pytest.mark.parametrize("wrong", ["signature", "type", "header"])
def test_a_wrong_signature_is_refused(
    wrong: str, receives: bool, signed: SignedS3, beam: Server, file: Path, tmp_path: Path
) -> None:
    """502 with S3's code and message, and neither an access key nor what was signed."""
    params = {"Metadata": {"a": "b"}} if wrong == "header" else {}
    url = signed.presign("wrong", 300, ContentType="text/other" if wrong == "type" else TYPE, **params)
    if wrong == "signature":
        url = url[:-1] + ("0" if url[-1] != "0" else "1")
    receiver = Receiver(beam, "/k", tmp_path / "got") if receives else None
    text = send(beam, "/k", file, to=url, status=502)
    assert "answered 403: SignatureDoesNotMatch: The request signature we calculated" in text
    for secret in (ACCESS_KEY, "AWS4", "X-Amz", url[-20:]):
        assert secret not in text
        assert secret not in beam.log.read_text()
    if receiver is not None:
        receiver.check(BODY)
    assert signed.object("wrong") is None


def test_a_url_that_has_expired_is_refused(beam: Server, file: Path) -> None:
    """502 with what S3 says."""
    with SignedS3(ahead=60) as late:
        text = send(beam, "/k", file, to=late.presign("late", 30, ContentType=TYPE), status=502)
        assert "answered 403: AccessDenied: Request has expired" in text
