"""What is written beside a body: it comes back as it was, and nothing else is taken for it."""

import json
from math import inf
from typing import Any, cast

import pytest
from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from beam.interfaces import ISpool
from beam.options import SendOptions
from beam.record import Record, decode, record_of
from beam.transfer import Offer, State, Transfer

TEXTS = st.text(max_size=20)
SECONDS = st.floats(0, allow_nan=False)
NUMBERS = st.integers(0, 1 << 62)
OPTIONS = st.builds(
    SendOptions,
    store=TEXTS,
    readers=st.none() | NUMBERS,
    exact=st.booleans(),
    downloads=st.none() | NUMBERS,
    ttl=st.none() | SECONDS,
    wait=SECONDS,
    name=st.none() | TEXTS,
    digest=st.none() | TEXTS,
    forward=st.frozensets(TEXTS, max_size=3),
    resume=st.none() | SECONDS,
)
OFFERS = st.builds(
    Offer,
    length=st.none() | NUMBERS,
    content_type=st.none() | TEXTS,
    content_encoding=st.none() | TEXTS,
    last_modified=st.none() | TEXTS,
    filename=TEXTS,
    disposition=st.none() | TEXTS,
    x_piping=st.lists(TEXTS, max_size=3).map(tuple),
    peer=TEXTS,
)
RECORDS = st.builds(
    Record,
    scope=TEXTS,
    key=TEXTS,
    etag=TEXTS,
    created=SECONDS,
    options=OPTIONS,
    offer=OFFERS,
    length=st.none() | NUMBERS,
    whole=st.booleans(),
    upload=TEXTS,
    notes=st.dictionaries(TEXTS, TEXTS, max_size=3),
    digests=st.dictionaries(TEXTS, st.binary(max_size=64), max_size=3),
)
SMALL = Record("s", "k", '"e"', 1.5, SendOptions(), Offer())


@given(record=RECORDS)
def test_it_comes_back_as_it_was(record: Record) -> None:
    """Every field of every part of it."""
    assert decode(record.encode()) == record


def test_every_field_is_tried() -> None:
    """Who adds one adds it above: a record that loses it is found out then."""
    assert len(fields(Record)) == 11 and len(fields(SendOptions)) == 10 and len(fields(Offer)) == 8


@given(data=st.binary(max_size=200))
def test_what_is_no_record(data: bytes) -> None:
    """It is refused with one error, whatever it is."""
    with pytest.raises(ValueError):
        decode(data)


@given(record=RECORDS, at=st.integers(0), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_record(record: Record, at: int, flip: int, cut: bool) -> None:
    """It is another one, or it is refused with the same error."""
    data = bytearray(record.encode())
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] ^= flip
    try:
        assert isinstance(decode(bytes(data)), Record)
    except ValueError:
        return


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


@given(name=st.sampled_from([each.name for each in fields(Record)]), value=VALUES)
def test_a_field_of_another_kind(name: str, value: Any) -> None:
    """A value that does not fit is refused with the same error, or bent."""
    try:
        decode(json.dumps({**json.loads(SMALL.encode()), name: value}).encode())
    except ValueError:
        return


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"scope":' * 100_000, SMALL.encode().replace(b'"length": null', b'"length": Infinity')],
    ids=["lists", "objects", "infinite"],
)
def test_what_is_hard_to_read(data: bytes) -> None:
    """The server starts all the same."""
    with pytest.raises(ValueError):
        decode(data)


def test_a_record_of_a_later_version() -> None:
    """What we do not know we do not need."""
    data = json.loads(SMALL.encode())
    for part in (data, data["options"], data["offer"]):
        part["invented"] = {"later": [1]}
    assert decode(json.dumps(data).encode()) == SMALL


def test_a_record_of_an_earlier_version() -> None:
    """What it did not know is as if it had not been said; without what names the file it is no record."""
    data = json.loads(SMALL.encode())
    optional = ("length", "whole", "upload", "notes", "digests")
    few = {name: data[name] for name in data if name not in optional}
    assert decode(json.dumps({**few, "options": {}, "offer": {}}).encode()) == SMALL
    for name in few:
        with pytest.raises(ValueError):
            decode(json.dumps({each: few[each] for each in few if each != name}).encode())


def test_it_is_text() -> None:
    """Also what no text can hold comes back: a name in no encoding, seconds without an end."""
    record = evolve(SMALL, options=SendOptions(resume=inf), digests={"sha-256": bytes(range(256))})
    assert decode(record.encode()) == record
    assert record.encode().isascii()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("known", "offered"), [(None, None), (None, 7), (5, None), (5, 7)])
def test_the_record_of_a_transfer(whole: bool, known: int | None, offered: int | None) -> None:
    """As it is now; its length is what is known of it, or what the sender said."""
    transfer = Transfer(
        key="k",
        options=SendOptions("disk", resume=3),
        etag='"e"',
        started=1.0,
        state=State.STORING,
        spool=cast(ISpool, None),
        keeps=True,
        created=17.5,
        upload="u",
        notes={"metadata": "m"},
        offer=Offer(offered, "text/plain", filename="f"),
        is_whole=whole,
        length=known,
        digests={"sha-256": b"d"},
    )
    record = record_of(transfer, "s")
    assert record == Record(
        scope="s",
        key="k",
        etag='"e"',
        created=17.5,
        options=transfer.options,
        offer=Offer(offered, "text/plain", filename="f"),
        length=known if known is not None else offered,
        whole=whole,
        upload="u",
        notes={"metadata": "m"},
        digests={"sha-256": b"d"},
    )
