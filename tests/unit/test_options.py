"""What operators and senders may choose, and how they write it."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam.errors import BadRequest
from beam.options import capped_seconds, counted, one, send_options
from beam.policy import Policy
from beam.values import count, seconds, size

STORES = {"memory": False, "disk": True, "second": False}
WILD = st.one_of(st.text(max_size=12), st.from_regex(r"[-+ 0-9._eEKMGTinfa٣²]{0,8}", fullmatch=True))


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("0", 0),
        ("500", 500),
        ("64K", 65536),
        ("500M", 500 << 20),
        ("1G", 1 << 30),
        ("2T", 2 << 40),
        ("007", 7),
        ("9" * 15, 10**15 - 1),
    ],
)
def test_sizes(text: str, bytes_: int) -> None:
    """Digits, and powers of 1024."""
    assert size(text) == bytes_


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "-1", "+1", "1.5M", "1k", "1KB", "1 K", "K", "0x10", "1_0", "1e3", "٣", "²", "9" * 16, "1\n"],
)
def test_sizes_that_are_none(text: str) -> None:
    """Nothing is bent into a number."""
    with pytest.raises(ValueError, match="is not a size"):
        size(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("30", 30), ("0.5", 0.5), ("3600", 3600), ("00.250", 0.25), ("0.30000000000000004", 0.1 * 3)],
)
def test_seconds(text: str, value: float) -> None:
    """Digits, and perhaps a fraction."""
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1_0", "nan", "inf", "1e3", ".5", "5.", "1,5", " 1", "1 ", "1s", "٣", "9" * 10, "1\n", "0x1"],
)
def test_seconds_that_are_none(text: str) -> None:
    """No sign, no exponent, no ``nan``."""
    with pytest.raises(ValueError, match="is not a number of seconds"):
        seconds(text)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("50000", 50000), ("010", 10)])
def test_counts(text: str, value: int) -> None:
    """A whole number of at least one."""
    assert count(text) == value


@pytest.mark.parametrize("text", ["", "0", "00", "-1", "+1", "1.0", "1e3", "two", "٣", "9" * 10, "1\n"])
def test_counts_that_are_none(text: str) -> None:
    """Zero is none."""
    with pytest.raises(ValueError, match="at least 1"):
        count(text)


@given(parse=st.sampled_from([size, seconds, count]), text=WILD)
def test_whatever_is_written_is_a_number_or_refused(parse: Callable[[str], float], text: str) -> None:
    """A number that is taken is written with ASCII digits, and is not negative."""
    try:
        value = parse(text)
    except ValueError:
        return
    assert value >= 0
    assert text[0] in "0123456789" and text.isascii()


@given(st.integers(0, 10**15 - 1), st.sampled_from(["", "K", "M", "G", "T"]))
def test_sizes_round_trip(n: int, unit: str) -> None:
    """A size is its digits times its unit."""
    assert size(f"{n}{unit}") == n * 1024 ** ["", "K", "M", "G", "T"].index(unit)


def test_one() -> None:
    """An option is given once or not at all."""
    assert one({}, "a") is None
    assert one({"a": []}, "a") is None
    assert one({"a": [""], "b": ["1", "2"]}, "a") == ""
    with pytest.raises(BadRequest, match="a is given twice"):
        one({"a": ["1", "1"]}, "a")


def test_capped_seconds() -> None:
    """The cap is in the sentence, so that the user can act on it."""
    assert capped_seconds({}, "wait", 7, 5) == 7
    assert capped_seconds({"wait": ["5"]}, "wait", 7, 5) == 5
    assert capped_seconds({"wait": ["0"]}, "wait", 7, 5) == 0
    with pytest.raises(BadRequest, match="wait is at most 5 seconds"):
        capped_seconds({"wait": ["5.1"]}, "wait", 7, 5)
    with pytest.raises(BadRequest, match="option wait: 'soon' is not"):
        capped_seconds({"wait": ["soon"]}, "wait", 7, 5)


def test_counted() -> None:
    """A number of at least one, or nothing."""
    assert counted({}, "readers") is None
    assert counted({"readers": ["3"]}, "readers") == 3
    with pytest.raises(BadRequest, match="option readers"):
        counted({"readers": ["0"]}, "readers")


def test_defaults_of_a_send() -> None:
    """The first store, one reader, the operator's times."""
    options = send_options({}, Policy(put_wait=77), STORES)
    assert (options.store, options.needed, options.wait) == ("memory", 1, 77)
    assert (options.downloads, options.ttl, options.name, options.digest) == (None, None, None, None)
    assert (options.readers, options.forward) == (None, frozenset())


def test_all_options_of_a_send() -> None:
    """Each option arrives where it belongs."""
    query = {"store": ["second"], "readers": ["3"], "wait": ["1.5"], "name": ["x y"], "digest": ["sha-256"]}
    options = send_options(query, Policy(), STORES)
    assert (options.store, options.readers, options.wait) == ("second", 3, 1.5)
    assert (options.name, options.digest) == ("x y", "sha-256")
    kept = send_options({"store": ["disk"], "downloads": ["2"], "ttl": ["0"]}, Policy(), STORES)
    assert (kept.store, kept.downloads, kept.ttl) == ("disk", 2, 0)
    assert send_options({"digest": ["sha-512"]}, Policy(), STORES).digest == "sha-512"


@pytest.mark.parametrize(
    ("value", "forward"),
    [
        ("spool", {"spool"}),
        ("best-effort", {"best-effort"}),
        ("spool,best-effort", {"spool", "best-effort"}),
        ("best-effort,spool", {"spool", "best-effort"}),
    ],
)
@pytest.mark.parametrize("store", [None, "memory", "disk", "second", "third"])
def test_how_to_forward(value: str, forward: set[str], store: str | None) -> None:
    """What is spooled lies in a store that keeps: the one that was named, or the first such one."""
    query = {"forward": [value]} if store is None else {"forward": [value], "store": [store]}
    options = send_options(query, Policy(), STORES | {"third": True})
    assert options.forward == forward
    if "spool" not in forward:
        assert options.store == (store or "memory")
    else:
        assert options.store == (store if store == "third" else "disk")


def test_options_beside_a_spooled_forward() -> None:
    """Those of the store that keeps fit, whatever store was named."""
    query = {"forward": ["spool"], "store": ["second"], "ttl": ["7"], "downloads": ["2"], "name": ["x"]}
    options = send_options(query, Policy(), STORES)
    assert (options.store, options.ttl, options.downloads, options.name) == ("disk", 7, 2, "x")
    held = send_options({"forward": ["best-effort"], "readers": ["2"], "wait": ["0"]}, Policy(), STORES)
    assert (held.store, held.readers, held.wait, held.forward) == ("memory", 2, 0, frozenset({"best-effort"}))


def test_nowhere_to_spool() -> None:
    """A server that keeps nothing says so; a best effort needs no disk."""
    for stores in ({"memory": False}, {"memory": False, "second": False}):
        for value in ("spool", "best-effort,spool"):
            with pytest.raises(BadRequest, match="needs a disk store, which this server does not have"):
                send_options({"forward": [value]}, Policy(), stores)
        assert send_options({"forward": ["best-effort"]}, Policy(), stores).forward == {"best-effort"}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"speed": ["1"]}, "no option 'speed'"),
        ({"Readers": ["1"]}, "no option 'Readers'"),
        ({"": [""]}, "no option"),
        ({"store": ["tape"]}, "no store 'tape'.* memory, disk, second"),
        ({"store": [""]}, "no store ''"),
        ({"store": ["disk", "disk"]}, "store is given twice"),
        ({"readers": ["0"]}, "at least 1"),
        ({"readers": ["-1"]}, "at least 1"),
        ({"readers": ["1", "2"]}, "readers is given twice"),
        ({"wait": ["nan"]}, "not a number of seconds"),
        ({"wait": ["3601"]}, "at most 3600"),
        ({"wait": [""]}, "not a number of seconds"),
        ({"downloads": ["1"]}, "does not fit the store memory, which holds nothing"),
        ({"ttl": ["1"]}, "does not fit the store memory"),
        ({"store": ["disk"], "readers": ["1"]}, "does not fit the store disk, which keeps"),
        ({"store": ["disk"], "wait": ["1"]}, "does not fit the store disk"),
        ({"store": ["disk"], "downloads": ["0"]}, "at least 1"),
        ({"store": ["disk"], "ttl": ["86401"]}, "at most 86400"),
        ({"store": ["disk"], "ttl": ["-1"]}, "not a number of seconds"),
        ({"digest": ["md5"]}, "one of sha-256, sha-512"),
        ({"digest": [""]}, "one of sha-256, sha-512"),
        ({"name": [""]}, "name is empty"),
        ({"forward": [""]}, "forward is one of best-effort, spool, or both"),
        ({"forward": ["now"]}, "forward is one of"),
        ({"forward": ["Spool"]}, "forward is one of"),
        ({"forward": ["best_effort"]}, "forward is one of"),
        ({"forward": ["spool,"]}, "forward is one of"),
        ({"forward": [",spool"]}, "forward is one of"),
        ({"forward": ["spool, best-effort"]}, "forward is one of"),
        ({"forward": ["spool,now"]}, "forward is one of"),
        ({"forward": ["spool best-effort"]}, "forward is one of"),
        ({"forward": ["https://bucket.example/"]}, "forward is one of"),
        ({"forward": ["spool", "best-effort"]}, "forward is given twice"),
        ({"forward": ["spool", "spool"]}, "forward is given twice"),
        ({"forward": ["spool"], "readers": ["1"]}, "readers does not fit the store disk, which keeps"),
        ({"forward": ["spool"], "wait": ["1"]}, "wait does not fit the store disk"),
        ({"forward": ["spool"], "store": ["memory"], "wait": ["1"]}, "wait does not fit the store disk"),
        ({"forward": ["spool"], "store": ["tape"]}, "no store 'tape'"),
        ({"forward": ["best-effort"], "ttl": ["1"]}, "ttl does not fit the store memory"),
        ({"forward": ["best-effort"], "store": ["disk"], "readers": ["1"]}, "readers does not fit the store disk"),
    ],
)
def test_options_that_are_refused(query: dict[str, list[str]], says: str) -> None:
    """400, with a sentence that names the option and what it takes."""
    with pytest.raises(BadRequest, match=says):
        send_options(query, Policy(), STORES)


@given(
    st.dictionaries(
        st.sampled_from(["store", "readers", "downloads", "ttl", "wait", "name", "digest", "forward", "x"]),
        st.lists(
            st.one_of(WILD, st.sampled_from(["1", "3", "disk", "memory", "sha-256", "spool", "spool,best-effort"])),
            min_size=1,
            max_size=2,
        ),
    )
)
def test_any_options_are_taken_or_refused(query: dict[str, list[str]]) -> None:
    """A ``BadRequest`` of one printable line, or options within the caps."""
    try:
        options = send_options(query, Policy(), STORES)
    except BadRequest as error:
        assert "\n" not in error.sentence
        return
    assert options.store in STORES
    assert options.needed >= 1
    assert options.downloads is None or options.downloads >= 1
    assert 0 <= options.wait <= 3600
    assert options.ttl is None or 0 <= options.ttl <= 86400
    assert options.forward <= {"spool", "best-effort"}
    assert STORES[options.store] or "spool" not in options.forward


@pytest.mark.parametrize(
    ("key", "shown"),
    [("report-2026.pdf", "rep..."), ("abcd", "a..."), ("abc", "..."), ("a", "..."), ("x" * 500, "xxx...")],
)
def test_keys_are_masked(key: str, shown: str) -> None:
    """A key is a secret: little of it is shown, unless the operator says otherwise."""
    assert Policy().shown(key) == shown
    assert Policy(list_keys=True).shown(key) == key
