"""The sender's body on its way into a spool: length, limit, digests."""

import hashlib
from collections import deque
from collections.abc import Mapping
from typing import cast
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam.body import Body, Check
from beam.errors import BadRequest, DigestMismatch, TooLarge, UnsupportedMediaType
from beam.interfaces import ISpool
from beam.quota import Quota
from beam.store.memory import RingSpool


class StrictSpool:
    """A spool that does no more than ``ISpool`` promises: a view is worth nothing after the next call.

    :param sizes: how much room there is at each call, again and again; 0 is none.
    """

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.calls = 0
        self.taken = bytearray()
        self.view = bytearray()

    @property
    def head(self) -> int:
        return len(self.taken)

    def room(self) -> memoryview:
        self.view = bytearray(b"?" * self.sizes[self.calls % len(self.sizes)])
        self.calls += 1
        return memoryview(self.view)

    def commit(self, n: int) -> None:
        assert 0 < n <= len(self.view), "more was committed than there was room for in the last view"
        self.taken += self.view[:n]
        self.view = bytearray()


def a_body(
    spool: StrictSpool,
    length: int | None = None,
    limit: int | None = None,
    announced: Mapping[str, bytes] | None = None,
    asked: str | None = None,
    doubted: bool = False,
    check: Check | None = None,
) -> Body:
    """A body into ``spool``."""
    return Body(cast(ISpool, spool), length, limit, announced or {}, asked, doubted, check)


def pour(body: Body, data: bytes, cuts: list[int]) -> None:
    """Write ``data``, cut into pieces, with as many calls as it takes."""
    pieces: deque[bytes | memoryview] = deque()
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        if cut > at:
            pieces.append(data[at:cut])
            at = cut
            if cut % 2:
                body.write(pieces)
    for _ in range(10 * len(data) + 10):
        body.write(pieces)
    assert not pieces


def sha(name: str, data: bytes) -> bytes:
    """A digest as RFC 9530 names it."""
    return hashlib.new(name.replace("-", ""), data).digest()


@given(
    data=st.binary(max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any),
    known=st.booleans(),
    algorithm=st.sampled_from([None, "sha-256", "sha-512"]),
    limited=st.booleans(),
)
def test_what_is_written_goes_into_the_spool(
    data: bytes, cuts: list[int], sizes: list[int], known: bool, algorithm: str | None, limited: bool
) -> None:
    """In any pieces, with any room: the same bytes, and the digest that was asked for."""
    spool = StrictSpool(sizes)
    body = a_body(spool, len(data) if known else None, len(data) if limited else None, asked=algorithm)
    pour(body, data, cuts)
    assert bytes(spool.taken) == data
    assert body.received == len(data)
    assert body.end() == ({algorithm: sha(algorithm, data)} if algorithm else {})


@given(
    data=st.binary(max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    known=st.booleans(),
    asked=st.sampled_from([None, "sha-256", "sha-512"]),
)
def test_an_announced_digest_that_is_right(
    data: bytes, cuts: list[int], sizes: list[int], known: bool, asked: str | None
) -> None:
    """Everything is there in the end; the last byte of a known length not before that."""
    spool = StrictSpool(sizes)
    announced = {"sha-256": sha("sha-256", data)}
    body = a_body(spool, len(data) if known else None, announced=announced, asked=asked)
    pour(body, data, cuts)
    assert bytes(spool.taken) == (data[:-1] if known else data), "the last byte is withheld"
    digests = body.end()
    assert bytes(spool.taken) == data
    assert digests == {name: sha(name, data) for name in {"sha-256", *([asked] if asked else [])}}


@given(data=st.binary(min_size=1, max_size=60), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_an_announced_digest_that_is_wrong(data: bytes, sizes: list[int]) -> None:
    """No receiver has seen the last byte, so that none can take it for whole."""
    spool = StrictSpool(sizes)
    body = a_body(spool, len(data), announced={"sha-512": sha("sha-512", data + b"!")})
    pour(body, data, [])
    with pytest.raises(DigestMismatch, match="sha-512"):
        body.end()
    assert bytes(spool.taken) == data[:-1]


def test_a_wrong_digest_of_unknown_length() -> None:
    """The end is what is withheld then; ``end`` refuses before anybody is told of it."""
    spool = StrictSpool([100])
    body = a_body(spool, None, announced={"sha-256": sha("sha-256", b"abd")})
    pour(body, b"abc", [])
    with pytest.raises(DigestMismatch):
        body.end()


def test_a_wrong_digest_of_an_empty_body() -> None:
    """An empty body has a digest too."""
    body = a_body(StrictSpool([1]), 0, announced={"sha-256": sha("sha-256", b"x")})
    with pytest.raises(DigestMismatch):
        body.end()


@pytest.mark.parametrize("size", [1, 2, 1000, 300_000, 1_200_000])
def test_the_withheld_byte_in_a_ring(size: int) -> None:
    """Withheld, then there, in the store that holds."""
    data = bytes(i % 251 for i in range(size))
    spool = RingSpool(Quota(64 << 20), size, 4 << 20, 12 << 20)
    body = Body(spool, size, None, {"sha-256": sha("sha-256", data)}, None)
    pour(body, data[: size // 3], [])
    pieces: deque[bytes | memoryview] = deque([data[size // 3 :]])
    body.write(pieces)
    assert not pieces
    assert spool.head == size - 1
    reader = spool.open(size - 1, False)
    assert not reader.peek()
    body.end()
    assert bytes(reader.peek()) == data[-1:]
    reader.close()


@pytest.mark.parametrize("missing", [1, 2, 5])
def test_a_body_that_is_shorter_than_announced(missing: int) -> None:
    """The sentence has both numbers."""
    body = a_body(StrictSpool([100]), 5)
    pour(body, b"abcde"[: 5 - missing], [])
    with pytest.raises(BadRequest, match=f"has {5 - missing} bytes where 5 were announced"):
        body.end()


def test_no_more_room_than_is_missing() -> None:
    """What follows the body on its connection is not the body's."""
    body = a_body(StrictSpool([100]), 5)
    assert len(body.room()) == 5
    pour(body, b"abc", [])
    assert len(body.room()) == 2
    pour(body, b"de", [])
    assert len(body.room()) == 0


def test_no_room() -> None:
    """A sender that has to wait keeps its bytes."""
    spool = StrictSpool([0, 2, 0])
    body = a_body(spool)
    pieces: deque[bytes | memoryview] = deque([b"abcd"])
    body.write(pieces)
    assert (bytes(spool.taken), [bytes(piece) for piece in pieces]) == (b"", [b"abcd"])
    body.write(pieces)
    assert (bytes(spool.taken), [bytes(piece) for piece in pieces]) == (b"ab", [b"cd"])


@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_body_that_is_too_large(step: int) -> None:
    """413 with the first byte above the limit; not one of them reaches the spool."""
    spool = StrictSpool([step])
    body = a_body(spool, None, 7)
    pour(body, b"1234567", [])
    assert body.end() == {}
    with pytest.raises(TooLarge, match="7 bytes"):
        body.write(deque([b"8"]))
    assert bytes(spool.taken) == b"1234567"


@given(data=st.binary(min_size=8, max_size=40), step=st.integers(1, 50))
def test_never_more_than_the_limit(data: bytes, step: int) -> None:
    """However the bytes come, the spool has at most as many as the operator allows."""
    spool = StrictSpool([step])
    body = a_body(spool, None, 7)
    with pytest.raises(TooLarge):
        pour(body, data, [])
    assert len(spool.taken) <= 7
    assert data.startswith(bytes(spool.taken))


# A length of which only the sender's word is known.


@given(
    data=st.binary(max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    announces=st.booleans(),
)
def test_a_length_that_turns_out_to_be_right(data: bytes, cuts: list[int], sizes: list[int], announces: bool) -> None:
    """The last byte is withheld until nothing follows it; then all is there."""
    spool = StrictSpool(sizes)
    announced = {"sha-256": sha("sha-256", data)} if announces else {}
    body = a_body(spool, len(data), announced=announced, doubted=True)
    pour(body, data, cuts)
    assert bytes(spool.taken) == data[:-1]
    assert body.end() == announced
    assert bytes(spool.taken) == data


@given(
    data=st.binary(max_size=60),
    missing=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_a_length_that_is_too_large(data: bytes, missing: int, cuts: list[int], sizes: list[int]) -> None:
    """Nothing is withheld but the end, which is refused with both numbers."""
    spool = StrictSpool(sizes)
    body = a_body(spool, len(data) + missing, doubted=True)
    pour(body, data, cuts)
    assert bytes(spool.taken) == data
    with pytest.raises(BadRequest, match=f"has {len(data)} bytes where {len(data) + missing} were announced"):
        body.end()
    assert bytes(spool.taken) == data


@given(
    data=st.binary(min_size=1, max_size=60),
    length=st.integers(0, 59),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_a_length_that_is_too_small(data: bytes, length: int, cuts: list[int], sizes: list[int]) -> None:
    """No receiver sees a byte that could be taken for the last one."""
    length = min(length, len(data) - 1)
    spool = StrictSpool(sizes)
    body = a_body(spool, length, doubted=True)
    with pytest.raises(BadRequest, match=f"has more than the {length} bytes"):
        pour(body, data, cuts)
    assert bytes(spool.taken) == data[:length][:-1]


def test_a_length_that_is_too_small_and_digests() -> None:
    """What is wrong with the length is told, and the bytes behind it are in no digest."""
    spool = StrictSpool([100])
    body = a_body(spool, 3, announced={"sha-256": sha("sha-256", b"abcd")}, doubted=True)
    with pytest.raises(BadRequest, match="has more than the 3 bytes"):
        pour(body, b"abcd", [])
    with pytest.raises(DigestMismatch):
        body.end()
    assert bytes(spool.taken) == b"ab"


def test_a_length_that_is_certain_withholds_nothing() -> None:
    """Where the framing shows it, every byte goes on at once."""
    spool = StrictSpool([100])
    pour(a_body(spool, 3), b"abc", [])
    assert bytes(spool.taken) == b"abc"


# A check of what comes.


class Reviewer:
    """Sees all, and refuses at an offset, or at the end."""

    filename = ""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.seen = bytearray()

    def take(self, data: memoryview) -> None:
        self.seen += data
        if self.at is not None and len(self.seen) > self.at:
            raise UnsupportedMediaType("no")

    def end(self) -> None:
        if self.at is not None:
            raise UnsupportedMediaType("no")


@given(
    data=st.binary(max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    known=st.booleans(),
)
def test_a_check_sees_every_byte(data: bytes, cuts: list[int], sizes: list[int], known: bool) -> None:
    """Once, in order, and the withheld one too; what passes is whole."""
    spool, check = StrictSpool(sizes), Reviewer(None)
    body = a_body(spool, len(data) if known else None, check=check)
    pour(body, data, cuts)
    assert check.seen == bytes(spool.taken) == (data[:-1] if known else data)
    body.end()
    assert check.seen == bytes(spool.taken) == data


@given(
    data=st.binary(min_size=1, max_size=60),
    at=st.integers(0, 60),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_nobody_has_the_whole_of_what_is_refused(data: bytes, at: int, sizes: list[int]) -> None:
    """Neither what is refused on the way nor what is refused at the end."""
    spool = StrictSpool(sizes)
    body = a_body(spool, len(data), check=Reviewer(at))
    with pytest.raises(UnsupportedMediaType):
        pour(body, data, [])
        body.end()
    assert len(spool.taken) < len(data)
    assert len(spool.taken) <= at


# A body in parts.


@given(
    data=st.binary(max_size=60),
    ends=st.lists(st.integers(0, 60), max_size=5),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    known=st.booleans(),
    told=st.booleans(),
)
def test_parts_are_one_body(data: bytes, ends: list[int], sizes: list[int], known: bool, told: bool) -> None:
    """Digests and type are those of all of it, wherever one part ends and the next begins."""
    spool, check = StrictSpool(sizes), Reviewer(None)
    digest = {"sha-256": sha("sha-256", data)}
    body = a_body(spool, len(data) if known else None, len(data), digest, asked="sha-512", check=check)
    at = 0
    for end in sorted({*(each % (len(data) + 1) for each in ends), len(data)}):
        body.begin_part(end - at if told else None)
        assert body.missing == (end - at if told else len(data) - at if known else None)
        pour(body, data[at:end], [])
        at = end
        assert body.received == at
        assert body.is_whole == (known and at == len(data))
        body.check_part(None)
    assert body.end() == {name: sha(name, data) for name in ("sha-256", "sha-512")}
    assert bytes(spool.taken) == data and check.seen == data


def test_a_part_that_ends_behind_the_file() -> None:
    """It is refused before a byte of it comes; one that ends where the file does is not."""
    body = a_body(StrictSpool([20]), 10)
    pour(body, bytes(4), [])
    with pytest.raises(BadRequest, match=r"ends at 11.*10 bytes"):
        body.begin_part(7)
    body.begin_part(6)
    assert body.missing == 6


@pytest.mark.parametrize("known", [True, False])
def test_a_part_that_is_longer_than_it_said(known: bool) -> None:
    """What was announced comes in, and no more, although the file is longer."""
    spool = StrictSpool([20])
    body = a_body(spool, 10 if known else None)
    body.begin_part(4)
    with pytest.raises(BadRequest, match="more than the 4 bytes"):
        pour(body, bytes(5), [])
    assert len(spool.taken) == 4


@pytest.mark.parametrize("known", [True, False])
def test_a_part_that_is_shorter_than_it_said(known: bool) -> None:
    """What came stays; the next part goes on there."""
    body = a_body(StrictSpool([20]), 10 if known else None)
    body.begin_part(4)
    pour(body, bytes(3), [])
    with pytest.raises(BadRequest, match=r"ends at 3 where 4"):
        body.check_part(4)
    body.begin_part(7)
    pour(body, bytes(7), [])
    body.check_part(7)
    assert body.is_whole == known


@pytest.mark.parametrize("known", [True, False])
def test_a_part_that_did_not_say_how_long_it_is(known: bool) -> None:
    """It ends where it ends; of a file whose length is known it lacks the rest."""
    body = a_body(StrictSpool([20]), 10 if known else None)
    body.begin_part(None)
    pour(body, bytes(3), [])
    body.check_part(None)
    assert body.missing == (7 if known else None) and not body.is_whole


def test_a_part_that_goes_beyond_what_the_operator_allows() -> None:
    """All parts count."""
    spool = StrictSpool([20])
    body = a_body(spool, None, limit=10)
    for n in (4, 6):
        body.begin_part(n)
        pour(body, bytes(n), [])
    body.begin_part(1)
    with pytest.raises(TooLarge):
        pour(body, bytes(1), [])
    assert len(spool.taken) == 10


def test_a_file_that_ends_too_early() -> None:
    """A part may end before the file does; the file may not."""
    body = a_body(StrictSpool([20]), 10)
    body.begin_part(4)
    pour(body, bytes(4), [])
    with pytest.raises(BadRequest, match="4 bytes where 10"):
        body.end()


def test_a_body_goes_on_with_what_lies_there() -> None:
    """The bytes of a spool that was found are those that came."""
    spool = StrictSpool([20])
    spool.taken += bytes(4)
    body = a_body(spool, 10)
    assert body.received == 4 and body.missing == 6
    body.begin_part(6)
    pour(body, bytes(6), [])
    assert body.is_whole and body.end() == {} and len(spool.taken) == 10


def test_a_name_decides_with_the_type() -> None:
    """It comes with the headers; without a check nobody asks for it."""
    check = Reviewer(None)
    a_body(StrictSpool([20]), check=check).named("a.png")
    assert check.filename == "a.png"
    a_body(StrictSpool([20])).named("a.png")


@given(data=st.binary(min_size=1, max_size=30), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_a_part_that_breaks_off_behind_the_last_byte(data: bytes, sizes: list[int]) -> None:
    """That byte is withheld and the spool ends before it: it comes again, and counts once."""
    spool, check = StrictSpool(sizes), Reviewer(None)
    digest = {"sha-256": sha("sha-256", data)}
    body = a_body(spool, len(data), len(data), digest, check=check)
    for _ in range(2):
        body.begin_part(None)
        pour(body, data[spool.head :], [])
        assert spool.head == len(data) - 1
    for _ in range(2):  # of the first nothing comes
        body.begin_part(1)
    pour(body, data[-1:], [])
    body.check_part(1)
    assert body.end() == digest
    assert bytes(spool.taken) == data == check.seen


def test_what_is_overwritten_is_told_to_the_spool() -> None:
    """Which may have history there."""
    spool = Mock()
    a_body(spool).overwritten(7)
    spool.overwritten.assert_called_once_with(7)
