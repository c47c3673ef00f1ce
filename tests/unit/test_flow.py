"""Flow.js parameters: every file that a client cuts comes together again, and what cannot be is told in a sentence."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from beam.errors import BadRequest
from beam.flow import PARAMETERS, Chunk, Plan, chunk_of, plan_of

GOOD = {
    "flowChunkNumber": "2",
    "flowTotalChunks": "3",
    "flowChunkSize": "10",
    "flowTotalSize": "25",
    "flowIdentifier": "25-a.bin",
    "flowFilename": "a.bin",
}


def cut(size: int, chunk_size: int, longer: bool) -> list[tuple[int, int]]:
    """Start and length of each chunk; ``longer`` as Flow.js cuts, whose last chunk takes the rest."""
    chunks = max(1, size // chunk_size if longer else -(-size // chunk_size))
    starts = [i * chunk_size for i in range(chunks)]
    return [(start, (chunk_size if i < chunks - 1 else size - start)) for i, start in enumerate(starts)]


@given(st.integers(0, 500), st.integers(1, 100), st.booleans(), st.booleans(), st.booleans())
def test_chunks_cover_the_file(size: int, chunk_size: int, longer: bool, tells_size: bool, tells_length: bool) -> None:
    """Whichever way it is cut, the chunks lie side by side from the start of the file to its end."""
    parts = cut(size, chunk_size, longer)
    for i, (start, length) in enumerate(parts):
        fields = {**GOOD, "flowTotalChunks": str(len(parts)), "flowChunkSize": str(chunk_size)}
        fields["flowChunkNumber"] = str(i + 1)
        del fields["flowTotalSize"]
        if tells_size:
            fields["flowTotalSize"] = str(size)
        if tells_length:
            fields["flowCurrentChunkSize"] = str(length)
        chunk = chunk_of(fields)
        assert chunk.start == start
        assert chunk.is_last == (i == len(parts) - 1)
        if tells_size or tells_length or not chunk.is_last:
            assert chunk.length == length
        else:
            assert chunk.length is None
            chunk.check(length)
            assert chunk_of(fields, size).length == length


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 60))
def test_a_total_that_makes_other_chunks_is_refused(size: int, chunk_size: int, chunks: int) -> None:
    """A size, a chunk size and a number of chunks that do not belong together are a mistake of the client."""
    assume(chunks not in {len(cut(size, chunk_size, longer)) for longer in (False, True)})
    fields = {"flowTotalSize": str(size), "flowChunkSize": str(chunk_size), "flowTotalChunks": str(chunks)}
    with pytest.raises(BadRequest, match="does not make"):
        plan_of({**GOOD, **fields})


@pytest.mark.parametrize(
    "name", ["flowChunkNumber", "flowTotalChunks", "flowChunkSize", "flowIdentifier", "flowFilename"]
)
def test_a_missing_parameter_is_named(name: str) -> None:
    """As well as where it has to stand."""
    with pytest.raises(BadRequest, match=f"{name} is missing.*before the file"):
        chunk_of({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"flowChunkNumber": "0"}, "flowChunkNumber is a whole number of at least 1"),
        ({"flowChunkNumber": "4"}, "no chunk 4"),
        ({"flowChunkNumber": "-1"}, "whole number"),
        ({"flowChunkNumber": "1.0"}, "whole number"),
        ({"flowChunkNumber": "1e1"}, "whole number"),
        ({"flowChunkNumber": "\u0661"}, "whole number"),
        ({"flowChunkNumber": "9" * 5000}, "whole number"),
        ({"flowChunkNumber": ""}, "whole number"),
        ({"flowTotalChunks": "0"}, "flowTotalChunks is a whole number"),
        ({"flowTotalChunks": "1000001"}, "more than 1000000 chunks"),
        ({"flowChunkSize": "999999999999999", "flowTotalSize": "1", "flowTotalChunks": "100"}, "No disk"),
        ({"flowChunkSize": "0"}, "flowChunkSize is a whole number"),
        ({"flowTotalSize": "20"}, "does not make 3 chunks"),
        ({"flowTotalSize": "40"}, "does not make 3 chunks"),
        ({"flowTotalSize": "x"}, "flowTotalSize is a whole number of at least 0"),
        ({"flowCurrentChunkSize": "9"}, "Chunk 2 has 9 bytes and should have 10"),
        ({"flowChunkNumber": "3", "flowCurrentChunkSize": "6"}, "Chunk 3 has 6 bytes and should have 5"),
        ({"flowIdentifier": ""}, "flowIdentifier is missing"),
        ({"flowIdentifier": "x" * 1025}, "flowIdentifier is longer than 1024"),
        ({"flowFilename": "x" * 1025}, "flowFilename is longer than 1024"),
    ],
)
def test_what_cannot_be_is_told(changed: dict[str, str], says: str) -> None:
    """Never bent, never an exception of another kind."""
    with pytest.raises(BadRequest, match=says):
        chunk_of({**GOOD, **changed})


def test_the_largest_that_can_be() -> None:
    """The bounds themselves are within."""
    plan = chunk_of({**GOOD, "flowIdentifier": "x" * 1024, "flowFilename": "y" * 1024}).plan
    assert (plan.identifier, plan.filename) == ("x" * 1024, "y" * 1024)
    most = {"flowTotalChunks": "1000000", "flowChunkSize": str((1 << 53) // 1_000_000), "flowTotalSize": None}
    given = {name: value for name, value in {**GOOD, **most}.items() if value is not None}
    assert chunk_of(given).plan.chunks == 1_000_000
    with pytest.raises(BadRequest, match="No disk"):
        chunk_of({**given, "flowChunkSize": str((1 << 53) // 1_000_000 + 1)})


@pytest.mark.parametrize(("length", "fits"), [(0, False), (1, True), (10, True), (19, True), (20, False)])
def test_a_last_chunk_of_unknown_length(length: int, fits: bool) -> None:
    """It is shorter than the others, or longer by less than one."""
    chunk = chunk_of(
        {name: value for name, value in {**GOOD, "flowChunkNumber": "3"}.items() if name != "flowTotalSize"}
    )
    if fits:
        chunk.check(length)
    else:
        with pytest.raises(BadRequest, match="The last chunk has"):
            chunk.check(length)


def test_an_empty_file_is_one_empty_chunk() -> None:
    """Whether it says so or not."""
    fields = {**GOOD, "flowTotalChunks": "1", "flowChunkNumber": "1", "flowTotalSize": "0"}
    assert chunk_of(fields).length == 0
    del fields["flowTotalSize"]
    chunk_of(fields).check(0)
    with pytest.raises(BadRequest):
        plan_of({**fields, "flowTotalSize": "20"})


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), st.booleans())
def test_a_plan_can_be_noted(identifier: str, filename: str, tells_size: bool) -> None:
    """What is written beside the file makes the same plan again, whatever the names are."""
    plan = Plan(identifier, filename, 3, 10, 25 if tells_size else None)
    assert plan_of(plan.notes) == plan
    assert set(plan.notes) <= set(PARAMETERS)


@pytest.mark.parametrize(
    ("changed", "agrees"),
    [
        ({}, True),
        ({"size": None}, True),
        ({"size": 24}, False),
        ({"identifier": "b"}, False),
        ({"filename": "b"}, False),
        ({"chunks": 2}, False),
        ({"chunk_size": 11}, False),
    ],
)
def test_two_uploads_under_one_identifier(changed: dict[str, object], agrees: bool) -> None:
    """They are one if they say the same, as far as they say it."""
    values: dict[str, object] = {"identifier": "a", "filename": "a", "chunks": 3, "chunk_size": 10, "size": 25}
    one, two = Plan(**values), Plan(**{**values, **changed})  # type: ignore[arg-type]
    assert one.agrees(two) is agrees
    assert two.agrees(one) is agrees


def test_places() -> None:
    """Start and end of a chunk in its file."""
    chunk = chunk_of(GOOD)
    assert chunk == Chunk(plan_of(GOOD), 2, 10)
    assert (chunk.start, chunk.is_last) == (10, False)
