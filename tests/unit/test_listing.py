"""Lists of files: nothing is left out or told twice, in whatever order and on however many pages."""

from urllib.parse import parse_qs

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from beam.errors import BadRequest
from beam.listing import ORDERS, File, Page, page_of, wanted_of

FILE = File("id", "a.png", 3, "image/png", 1700000000.25, 3, True)
FILES = st.builds(
    File,
    id=st.uuids().map(str),
    filename=st.sampled_from(["a", "A", "b.PNG", "ß", ""]),
    size=st.none() | st.integers(0, 3),
    content_type=st.sampled_from([None, "image/png", "image/jpeg", "text/plain; charset=utf-8"]),
    created=st.sampled_from([0.0, 1.5, 2.0]),
    received=st.just(0),
    complete=st.booleans(),
)


def ask(files: list[File], **query: str) -> Page:
    """The page that ``query`` asks for."""
    given_ = {name: [value] for name, value in query.items()}
    return page_of(files, wanted_of(given_), given_)


def test_a_file_as_json() -> None:
    """Times are those of Greenwich, with milliseconds."""
    assert FILE.shown() == {
        "id": "id",
        "filename": "a.png",
        "size": 3,
        "content_type": "image/png",
        "created": "2023-11-14T22:13:20.250Z",
        "received": 3,
        "complete": True,
    }
    assert evolve(FILE, size=None, created=1700000000.0).shown()["created"] == "2023-11-14T22:13:20.000Z"


@given(
    st.lists(FILES, unique_by=lambda file: file.id), st.integers(1, 5), st.sampled_from(sorted(ORDERS)), st.booleans()
)
def test_pages_have_every_file_once_and_in_order(files: list[File], per_page: int, order: str, turned: bool) -> None:
    """Whoever follows the links from the first page on sees each file once."""
    sort = f"-{order}" if turned else order
    page = ask(files, sort=sort, per_page=str(per_page))
    seen = list(page.files)
    while "next" in page.links:
        query = {name: values[0] for name, values in parse_qs(page.links["next"]).items()}
        assert query["sort"] == sort
        page = ask(files, **query)
        assert len(page.files) <= per_page
        assert page.total == len(files)
        seen += page.files
    assert sorted(seen, key=lambda file: file.id) == sorted(files, key=lambda file: file.id)
    keys = [ORDERS[order](file) for file in seen]
    assert keys == sorted(keys, reverse=turned)
    assert parse_qs(page.links["last"])["page"] == [str(max(1, -(-len(files) // per_page)))]


def test_the_newest_stands_first_if_nothing_is_said() -> None:
    """As in a folder that one looks into for what has just come."""
    files = [evolve(FILE, id=str(i), created=float(i)) for i in (2, 3, 1)]
    assert [file.id for file in ask(files).files] == ["3", "2", "1"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"filename": "A"}, ["1", "2"]),
        ({"filename": ".png"}, ["1"]),
        ({"filename": "nothing"}, []),
        ({"content_type": "image/*"}, ["1", "2"]),
        ({"content_type": "IMAGE/PNG"}, ["1"]),
        ({"content_type": "text/plain"}, ["3"]),
        ({"content_type": "image"}, []),
        ({"complete": "true"}, ["1", "3"]),
        ({"complete": "false"}, ["2"]),
        ({"complete": "false", "filename": "ü"}, []),
    ],
)
def test_filters(query: dict[str, str], ids: list[str]) -> None:
    """Parts of names whatever their case, types with their parameters left out, whole files or those that come."""
    files = [
        evolve(FILE, id="1"),
        evolve(FILE, id="2", filename="Ä a", content_type="image/jpeg", complete=False),
        evolve(FILE, id="3", filename="ü.txt", content_type="text/plain; charset=utf-8"),
    ]
    page = ask(files, sort="created", **query)
    assert sorted(file.id for file in page.files) == ids
    assert page.total == len(ids)


def test_links_keep_what_was_asked_for() -> None:
    """A page has those before and behind it, the first and the last; a page behind the last leads back."""
    files = [evolve(FILE, id=str(i)) for i in range(5)]
    links = ask(files, page="2", per_page="2", filename="A.").links
    assert {name: parse_qs(link)["page"] for name, link in links.items()} == {
        "first": ["1"],
        "prev": ["1"],
        "next": ["3"],
        "last": ["3"],
    }
    assert all(parse_qs(link)["filename"] == ["A."] for link in links.values())
    beyond = ask(files, page="9", per_page="2")
    assert beyond.files == []
    assert parse_qs(beyond.links["prev"])["page"] == ["3"]
    assert "next" not in beyond.links
    assert set(ask([]).links) == {"first", "last"}


def test_the_longest_page() -> None:
    """The bound itself is within."""
    files = [evolve(FILE, id=str(i)) for i in range(1001)]
    assert [len(ask(files, per_page="1000", page=str(page)).files) for page in (1, 2)] == [1000, 1]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"page": ["0"]}, "option page"),
        ({"page": ["x"]}, "option page"),
        ({"per_page": ["1001"]}, "per_page is at most 1000"),
        ({"per_page": ["-1"]}, "option per_page"),
        ({"sort": ["id"]}, "option sort is one of created, filename, size, content_type"),
        ({"sort": ["--size"]}, "option sort"),
        ({"complete": ["1"]}, "complete is true or false"),
        ({"page": ["1", "2"]}, "given twice"),
        ({"color": ["red"]}, "no option 'color'"),
    ],
)
def test_what_cannot_be_is_told(query: dict[str, list[str]], says: str) -> None:
    """With what could be."""
    with pytest.raises(BadRequest, match=says):
        wanted_of(query)
