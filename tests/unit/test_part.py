"""Bodies in parts, as requests bring them: without sockets, by a clock that stands still."""

import base64
import hashlib
import time
from email.utils import parsedate_to_datetime
from typing import cast

import pytest
from attrs import evolve
from unit.actors import POLICY, KeptSpool
from unit.test_reply import Client, House

from beam.errors import Outcome
from beam.policy import Policy
from beam.transfer import State, Transfer

AWAY = 4
LONG = evolve(POLICY, upload_ttl=100.0, sender_resume=60.0)
TUS = {"Tus_Resumable": "1.0.0"}
PART = "application/offset+octet-stream"


class Uploads(House):
    """A house whose senders send in parts."""

    def __init__(self, keeps: bool = True, policy: Policy = LONG) -> None:
        super().__init__(policy, keeps=keeps)

    @property
    def transfer(self) -> Transfer:
        """The only one."""
        (transfer,) = self.stage.broker.rendezvous.transfers.values()
        return transfer

    def begin(self, data: bytes = b"", total: int = 10, query: str = f"?resume={AWAY}") -> Client:
        """A sender of ``total`` bytes."""
        client = self.put(total, f"/k{query}")
        client.send(data)
        return client

    def go_on(self, start: int, data: bytes, total: int = 10, announced: int | None = None) -> Client:
        """A part."""
        n = len(data) if announced is None else announced
        client = self.put(n, "/k", Content_Range=f"bytes {start}-{start + n - 1}/{total}")
        client.send(data)
        return client

    def create(self, data: bytes | None = None, total: int | None = 10, query: str = "", **headers: str) -> Client:
        """A new upload of tus."""
        length = {"Upload_Defer_Length": "1"} if total is None else {"Upload_Length": str(total)}
        if headers.get("Upload_Concat", "").startswith("final"):
            length = {}
        if data is not None:
            headers |= {"Content_Type": PART}
        path = f"/-/tus{query}"
        client = self.ask("POST", path, **TUS, **length, Content_Length=str(len(data or b"")), **headers)
        client.send(data or b"")
        return client

    def patch(
        self, where: str, offset: int, data: bytes, announced: int | None = None, right: bool | None = None, **more: str
    ) -> Client:
        """A part of tus, with a checksum that is ``right`` or not, or with none."""
        if right is not None:
            digest = hashlib.sha256(data if right else b"").digest()
            more["Upload_Checksum"] = f"sha256 {base64.b64encode(digest).decode()}"
        n = len(data) if announced is None else announced
        head = {**TUS, "Upload_Offset": str(offset), "Content_Type": PART, "Content_Length": str(n), **more}
        client = self.ask("PATCH", where, **head)
        client.send(data)
        return client

    def over(self) -> None:
        """Everything ends by itself, and nothing is left."""
        self.stage.wait(300)
        self.close()
        assert not self.stage.broker.rendezvous.transfers
        assert self.stage.keeping.usage() == 0


def where(client: Client) -> str:
    """Where an upload that was created goes on."""
    assert client.heard.status == 201
    return client.heard.headers["location"]


# PUT.


@pytest.mark.parametrize("keeps", [True, False])
def test_a_file_in_parts(keeps: bool) -> None:
    """Each but the last is answered with how far it is; whoever receives has all of it in one piece."""
    house = Uploads(keeps)
    first = house.begin(b"abc")
    receiver = house.ask("GET", "/k")
    first.lose()
    second = house.go_on(3, b"def")
    assert (second.heard.status, second.heard.headers["upload-offset"]) == (202, "6")
    assert second.heard.headers["upload-complete"] == "?0"
    last = house.go_on(6, b"ghij")
    assert last.heard.status == (201 if keeps else 200)
    assert receiver.heard.text == "abcdefghij" and receiver.heard.whole
    house.over()
    assert house.outcomes == [Outcome.STORED if keeps else Outcome.DELIVERED]


@pytest.mark.parametrize("keeps", [True, False])
def test_a_connection_takes_the_place_of_another(keeps: bool) -> None:
    """What the old one still brings is nobody's."""
    house = Uploads(keeps)
    first = house.begin(b"abc")
    second = house.go_on(3, b"de", announced=7)
    assert first.heard.status == 409
    first.send(b"XYZ")
    second.send(b"fghij")
    assert house.ask("GET", "/k").heard.text == "abcdefghij"
    first.lose()
    house.over()


@pytest.mark.parametrize(
    ("start", "data", "total", "status", "offset"),
    [(0, b"abc", 10, 409, "3"), (4, b"e", 10, 409, "3"), (3, b"d", 11, 400, None), (3, b"d", 9, 400, None)],
)
def test_a_part_that_does_not_fit(start: int, data: bytes, total: int, status: int, offset: str | None) -> None:
    """Nobody is disturbed by it."""
    house = Uploads()
    first = house.begin(b"abc")
    heard = house.go_on(start, data, total).heard
    assert (heard.status, heard.headers.get("upload-offset")) == (status, offset)
    first.send(b"defghij")
    assert first.heard.status == 201
    house.over()


def test_a_part_that_breaks_off() -> None:
    """What came of it stays."""
    house = Uploads()
    house.begin(b"abc").lose()
    house.go_on(3, b"de", announced=4).lose()
    assert house.transfer.spool.head == 5
    house.stage.wait(AWAY - 1)
    assert house.go_on(5, b"fghij").heard.status == 201
    house.over()


def test_a_part_that_is_silent() -> None:
    """It hears so, and the transfer waits for the next one."""
    house = Uploads()
    silent = house.begin(b"abc")
    house.stage.wait(LONG.idle_timeout + 2)
    assert silent.heard.status == 408
    silent.send(b"XYZ")
    assert house.go_on(3, b"defghij").heard.status == 201
    house.over()


def test_the_connection_that_was_replaced_brings_another_request() -> None:
    """It had sent all of its part, for which there was no room: its next request comes before the newer one begins."""
    house = Uploads(keeps=False)
    first = house.begin(b"", 200)
    first.lose()
    part = house.go_on(0, bytes(150), 200)
    assert house.transfer.spool.head == 128
    again = b"PUT /k HTTP/1.1\r\nHost: beam.test\r\nContent-Length: 72\r\nContent-Range: bytes 128-199/200\r\n\r\n"
    part.send(again)
    newer = house.go_on(128, b"N" * 72, 200)
    receiver = house.ask("GET", "/k")
    part.send(bytes(72))
    house.stage.wait(1)
    assert house.outcomes == [Outcome.DELIVERED] and receiver.heard.text == "\0" * 200
    assert newer.heard.status == 409
    house.over()


def test_a_sender_that_leaves_while_the_disk_is_slow() -> None:
    """All of its part has come and will be there; nobody hears of it, and the next one goes on."""
    house = Uploads()
    house.begin(b"abc").lose()
    spool = cast(KeptSpool, house.transfer.spool)
    spool.full = True
    part = house.go_on(3, b"def")
    assert spool.head == 3
    part.lose()
    spool.full = False
    spool.resume()
    assert spool.head == 6
    assert house.go_on(6, b"ghij").heard.status == 201
    house.over()


# tus.


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("right", [None, True])
def test_an_upload_in_parts(keeps: bool, right: bool | None) -> None:
    """With checksums and without."""
    house = Uploads(keeps)
    receiver = house.ask("GET", "/k?wait=5")
    url = where(house.create(Upload_Metadata="key " + base64.b64encode(b"k").decode()))
    first = house.patch(url, 0, b"abcd", right=right)
    assert (first.heard.status, first.heard.headers["upload-offset"]) == (204, "4")
    last = house.patch(url, 4, b"efghij", right=right)
    assert (last.heard.status, last.heard.headers["upload-offset"]) == (204, "10")
    assert receiver.heard.text == "abcdefghij"
    house.over()


@pytest.mark.parametrize("keeps", [True, False])
def test_a_wrong_checksum(keeps: bool) -> None:
    """Nobody sees a byte of that part, and it can be sent again."""
    house = Uploads(keeps)
    url = where(house.create())
    assert house.patch(url, 0, b"abcd", right=False).heard.status == 460
    assert house.transfer.spool.head == 0
    assert house.patch(url, 0, b"abcd", right=True).heard.status == 204
    assert house.transfer.spool.head == 4
    house.over()
    assert house.outcomes == [Outcome.SENDER_LOST if keeps else Outcome.EXPIRED]


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("how", ["breaks off", "is replaced", "ends"])
def test_a_checked_part_that_does_not_come_to_its_end(keeps: bool, how: str) -> None:
    """What came of it is let go."""
    house = Uploads(keeps)
    url = where(house.create())
    part = house.patch(url, 0, b"ab", announced=4, right=True)
    if how == "breaks off":
        part.lose()
    elif how == "is replaced":
        assert house.patch(url, 0, b"abcd", right=True).heard.status == 204
        assert part.heard.status == 409
    else:
        house.ask("DELETE", url, **TUS)
        assert part.heard.status == 410
    if how != "ends":
        assert house.transfer.spool.head == (4 if how == "is replaced" else 0)
    house.over()


def test_a_checked_part_that_the_disk_has_not_yet() -> None:
    """It becomes one of the file when it is safe, and not before."""
    house = Uploads()
    url = where(house.create())
    house.stage.keeping.at_once = False
    spools = spools_of(house)
    part = house.patch(url, 0, b"abcd", right=True)
    assert house.transfer.spool.head == 0 and part.answer == b""
    spools[-1].deferred.callback(None)
    assert house.transfer.spool.head == 4 and part.heard.status == 204
    house.over()


def spools_of(house: Uploads) -> list[KeptSpool]:
    """Those that are created from now on, without a record."""
    made: list[KeptSpool] = []
    create = house.stage.keeping.create

    def creates(*args: object) -> KeptSpool:
        made.append(create(*args))  # type: ignore[arg-type]
        return made[-1]

    house.stage.keeping.create = creates  # type: ignore[method-assign,assignment]
    return made


def test_a_checked_part_for_which_there_is_no_memory() -> None:
    """It has to fit, because nobody may see it before it is right."""
    house = Uploads(keeps=False)
    url = where(house.create(total=400))
    assert house.patch(url, 0, bytes(200), right=True).heard.status == 413
    assert house.patch(url, 0, bytes(100), right=True).heard.status == 204
    house.over()


def test_the_offset_stays_as_it_was_told() -> None:
    """Who asks for it ends the part that still comes."""
    house = Uploads()
    url = where(house.create())
    part = house.patch(url, 0, b"ab", announced=4)
    heard = house.ask("HEAD", url, **TUS).heard
    assert (heard.status, heard.headers["upload-offset"]) == (200, "2")
    part.send(b"cd")
    assert house.transfer.spool.head == 2 and part.heard.status == 409
    house.over()


@pytest.mark.parametrize("data", [None, b"", b"abc"])
def test_an_upload_of_unknown_length(data: bytes | None) -> None:
    """It ends where a part says that it does."""
    house = Uploads()
    url = where(house.create(data, total=None))
    n = len(data or b"")
    assert house.transfer.length is None
    assert house.patch(url, n, b"defg", Upload_Length=str(n + 8)).heard.status == 204
    assert house.patch(url, n + 4, b"hijk").heard.status == 204
    assert house.transfer.state is State.KEPT
    house.over()


def test_an_empty_upload() -> None:
    """It is whole when it is written down."""
    house = Uploads()
    assert house.create(total=0).heard.status == 201
    assert house.transfer.state is State.KEPT
    house.over()


def test_an_upload_is_created_when_it_is_written_down() -> None:
    """Its address is of no use before."""
    house = Uploads()
    house.stage.keeping.at_once = False
    client = house.create()
    assert client.answer == b""
    house.stage.keeping.spools[-1].saving.callback(None)
    assert client.heard.status == 201
    house.over()


def test_uploads_are_joined() -> None:
    """In the order in which they are named; they are gone then."""
    house = Uploads()
    urls = [where(house.create(data, 4, Upload_Concat="partial")) for data in (b"abcd", b"efgh")]
    final = house.create(total=None, Upload_Concat="final;" + " ".join(reversed(urls)))
    assert house.ask("GET", final.heard.headers["content-location"]).heard.text == "efghabcd"
    assert [house.ask("HEAD", url, **TUS).heard.status for url in urls] == [410, 410]
    house.over()


def test_a_checked_part_that_keeps_a_pace() -> None:
    """The parts behind it go into the file as well."""
    house = Uploads(policy=evolve(LONG, bandwidth=1000))
    url = where(house.create())
    assert house.patch(url, 0, b"abcd", right=True).heard.status == 204
    assert house.patch(url, 4, b"efg").heard.status == 204
    assert house.transfer.spool.head == 7
    assert house.patch(url, 7, b"hij", right=True).heard.status == 204
    assert cast(KeptSpool, house.transfer.spool).bytes == b"abcdefghij"
    house.over()


def test_the_sender_of_a_checked_part_leaves_while_the_disk_is_slow() -> None:
    """Nothing of the part is there: the sender is away from then on."""
    house = Uploads()
    url = where(house.create())
    house.stage.keeping.at_once = False
    house.patch(url, 0, b"abcd", right=True).lose()
    assert house.transfer.spool.head == 0
    house.stage.wait(LONG.upload_ttl)
    assert house.outcomes == [Outcome.SENDER_LOST]
    house.over()


@pytest.mark.parametrize("right", [None, True])
def test_a_new_upload_whose_first_part_is_refused(right: bool | None) -> None:
    """Its key is free again at once."""
    house = Uploads()
    checksum = {} if right is None else {"Upload_Checksum": "sha256 " + base64.b64encode(bytes(32)).decode()}
    assert house.create(b"abcdef", 5, **checksum).heard.status == 413
    assert not house.stage.broker.rendezvous.transfers
    house.over()


def test_a_new_upload_for_whose_first_part_there_is_no_memory() -> None:
    """Its sender does not know where it would go on: its key is free again."""
    house = Uploads(keeps=False)
    house.stage.memory.cap = 10
    checksum = "sha256 " + base64.b64encode(bytes(32)).decode()
    client = house.create(b"abcdef", 10, Upload_Checksum=checksum)
    assert client.heard.status == 503 and client.heard.whole
    assert not house.stage.broker.rendezvous.transfers
    house.over()


def test_an_upload_that_is_joined_is_taken_back() -> None:
    """Those that it is joined from are read no more, and end when their time is over."""
    house = Uploads()
    url = where(house.create(b"abcd", 4, Upload_Concat="partial"))
    house.stage.keeping.full = True
    final = house.create(total=None, Upload_Concat=f"final;{url}")
    assert final.answer == b""
    (joined,) = [each for each in house.stage.broker.rendezvous.transfers.values() if not each.is_whole]
    assert house.ask("DELETE", f"/-/tus/{joined.upload}", **TUS).heard.status == 204
    assert final.heard.status == 410
    house.over()


def test_an_upload_that_is_joined_is_asked_for() -> None:
    """That does not end it: its sender hears when it is whole."""
    house = Uploads()
    url = where(house.create(b"abcd", 4, Upload_Concat="partial"))
    house.stage.keeping.full = True
    final = house.create(total=None, Upload_Concat=f"final;{url}")
    (joined,) = [each for each in house.stage.broker.rendezvous.transfers.values() if not each.is_whole]
    heard = house.ask("HEAD", f"/-/tus/{joined.upload}", **TUS).heard
    assert heard.status == 200 and "upload-offset" not in heard.headers
    spool = cast(KeptSpool, joined.spool)
    spool.full = False
    spool.resume()
    assert final.heard.status == 201 and house.transfer is joined
    house.over()


def test_an_upload_that_is_joined_loses_its_place() -> None:
    """Whoever knows its key may go on with it; who joined it hears so."""
    house = Uploads()
    url = where(house.create(b"abcd", 4, Upload_Concat="partial"))
    house.stage.keeping.full = True
    final = house.create(
        total=None, Upload_Concat=f"final;{url}", Upload_Metadata="key " + base64.b64encode(b"k").decode()
    )
    joined = house.stage.broker.rendezvous.transfers["k"]
    spool = cast(KeptSpool, joined.spool)
    spool.full = False
    assert house.go_on(0, b"ABCD", 4).heard.status == 201
    assert final.heard.status == 409 and spool.bytes == b"ABCD"
    house.over()


# What is told of a length, and what is let go.


def test_a_length_that_is_told_later_is_written_down() -> None:
    """It is known from then on, also behind a restart."""
    house = Uploads()
    url = where(house.create(total=None))
    saves = house.stage.keeping.log.count("save")
    house.patch(url, 0, b"ab", Upload_Length="10")
    assert house.stage.keeping.log.count("save") == saves + 1
    assert b'"length": 10' in house.stage.keeping.records[-1]
    assert house.ask("HEAD", url, **TUS).heard.headers["upload-length"] == "10"
    house.over()


def test_a_length_that_is_told_later_is_too_large() -> None:
    """As it would have been at the start; the upload is as it was."""
    house = Uploads(policy=evolve(LONG, max_pipe_size=20))
    url = where(house.create(total=None))
    assert house.patch(url, 0, b"ab", Upload_Length="21").heard.status == 413
    assert house.patch(url, 0, b"ab", Upload_Length="20").heard.status == 204
    house.over()


def test_a_checked_part_that_waits_for_room_is_ended() -> None:
    """What of it is in the file stays there; the rest comes again."""
    house = Uploads(keeps=False)
    url = where(house.create(total=200))
    assert house.patch(url, 0, bytes(100), right=True).heard.status == 204
    part = house.patch(url, 100, b"x" * 100, right=True)
    assert part.answer == b""
    assert house.ask("HEAD", url, **TUS).heard.headers["upload-offset"] == "128"
    assert part.heard.status == 409 and house.transfer.outcome is None
    receiver = house.ask("GET", f"/{house.transfer.key}")
    assert house.transfer.spool.head == 128
    last = house.patch(url, 128, b"y" * 72)
    house.stage.wait(1)
    assert last.heard.status == 204
    assert receiver.heard.text.endswith("x" * 28 + "y" * 72)
    house.over()


def test_until_when_it_can_go_on() -> None:
    """Who asks does not begin the time anew."""
    house = Uploads()
    url = where(house.create(query="?resume=100"))
    house.stage.wait(60)
    expires = parsedate_to_datetime(house.ask("HEAD", url, **TUS).heard.headers["upload-expires"])
    assert 30 < expires.timestamp() - time.time() < 50
    house.over()
