"""What schemathesis has to be told of beam, because OpenAPI cannot say it.

How some headers are written (it draws letters and digits only), and which parameters do not go together.
"""

import base64
import re
from itertools import count
from typing import Any
from uuid import UUID

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, Response

from beam.web.openapi.pieces import FORMATS
from beam.web.tus.fields import PART

AnyCase = Case[Any]

for name, expression in FORMATS.items():
    schemathesis.openapi.format(name, st.from_regex(expression.removeprefix("^").removesuffix("$"), fullmatch=True))


def metadata(said: dict[str, str]) -> str:
    """``said`` as ``Upload-Metadata``."""
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in said.items())


TEXT = st.text("abcäß", min_size=1, max_size=9)
schemathesis.openapi.format(
    "upload-metadata",
    st.fixed_dictionaries({"filename": TEXT}, optional={"key": TEXT, "filetype": st.just("a/b")}).map(metadata),
)
schemathesis.serializer.alias(PART, "application/octet-stream")


NUMBERS = count()
UPLOADS: dict[str, str] = {}  # those of tus that are not whole: their names, and how far they are
KEPT = ["live"]  # keys of what can be received: where nothing is kept, somebody sends under this one
COMING: set[str] = set()  # files of which chunks are missing


@schemathesis.hook
def before_call(context: HookContext, case: AnyCase, **kwargs: Any) -> None:
    """Leave out what does not go together with the rest; what is wrong by itself stays."""
    query: dict[str, Any] = case.query or {}
    headers: Any = case.headers or {}
    number = next(NUMBERS)
    if case.path == "/{key}" and case.method in ("PUT", "POST"):
        is_form = is_form_of(case)
        add_file(case)
        if number % 2:
            query.pop("ttl", None)
            query.pop("downloads", None)
        if number % 4 in (1, 2):  # else the key of an example, perhaps, which others use too
            case.path_parameters["key"] = f"file-{number}"
        if is_form or (number % 2 and query.get("resume") == ""):
            query.pop("resume", None)
        if is_form or "resume" in query:
            query.pop("digest", None)
            headers.pop("Repr-Digest", None)
        if "resume" not in query:
            headers.pop("Content-Range", None)
        else:  # a part finds no other file of which it could be
            case.path_parameters["key"] = f"part-{number}"
        if re.fullmatch(FORMATS["content-range"], str(headers.get("Content-Range", ""))):
            length = length_of(case)
            headers["Content-Range"] = f"bytes 0-{length - 1}/{length * 2}"
            if not length:
                headers.pop("Content-Range")
    elif case.path == "/{key}" and case.method in ("GET", "HEAD") and number % 2:
        case.path_parameters["key"] = KEPT[-1]
    elif case.path == "/api/files/upload":
        add_file(case)
        if is_form_of(case):
            headers.pop("Repr-Digest", None)
    elif case.path == "/api/files/{id}" and case.path_parameters["id"] in COMING:
        case.path_parameters["id"] = str(UUID(int=0))  # who reads it would wait for the rest, as nobody sends it
    elif case.path == "/api/files/upload/chunked":
        number_chunk(case, query, headers, number)
    elif case.path == "/-/tus":
        if "Upload-Length" in headers:
            headers.pop("Upload-Defer-Length", None)
        elif headers.get("Upload-Defer-Length") != "1":
            headers["Upload-Length"] = str(length_of(case) + number % 2 * 4)
        if str(headers.get("Upload-Concat", "")).startswith("final"):
            headers.pop("Upload-Concat")
    elif case.path == "/-/tus/{id}":
        known = case.path_parameters["id"]
        if UPLOADS and re.fullmatch("[0-9a-f]{32}", str(known)):
            known = case.path_parameters["id"] = known if known in UPLOADS else next(iter(UPLOADS))
            if str(headers.get("Upload-Offset", "")).isdigit():
                headers["Upload-Offset"] = UPLOADS[known]
        if str(headers.get("Upload-Length", "")).isdigit():
            headers.pop("Upload-Length")


def is_form_of(case: AnyCase) -> bool:
    """Whether its body is a form."""
    return (case.media_type or "").startswith("multipart/")


def add_file(case: AnyCase) -> None:
    """See that a file is in a form, also where a body of any type was drawn."""
    if is_form_of(case):
        body: dict[str, Any] = {"file": b"x", **(case.body if isinstance(case.body, dict) else {})}
        case.body = body


def number_chunk(case: AnyCase, query: dict[str, Any], headers: Any, number: int) -> None:
    """Let the numbers of a chunk agree with each other and with its body, if each is one."""
    numbers = [query.get(each, "1") for each in ("flowChunkNumber", "flowTotalChunks", "flowChunkSize")]
    if not all(re.fullmatch("[1-9][0-9]{0,8}", str(each)) for each in numbers):
        return
    for each in ("flowTotalSize", "flowCurrentChunkSize", "flowChunkDigest"):
        query.pop(each, None)
    headers.pop("Content-Digest", None)
    if is_form_of(case):
        form: dict[str, Any] = {"file": b"1234"}
        case.body = form
    length = 4 if case.method != "POST" or is_form_of(case) else length_of(case)
    identifier = f"chunks-{number}" if number % 3 else f"chunks of {length}"
    query |= {"flowIdentifier": identifier, "flowFilename": "name", "flowChunkSize": str(length or 1)}
    query |= {"flowChunkNumber": "1", "flowTotalChunks": "2" if length else "1"}
    case.query = query


@schemathesis.hook
def after_call(context: HookContext, case: AnyCase, response: Response) -> None:
    """Remember what was begun."""
    headers = response.headers
    if case.path == "/-/tus" and response.status_code == 201 and "upload-expires" in headers:
        UPLOADS[headers["location"][0].rpartition("/")[2]] = headers["upload-offset"][0]
    elif case.path == "/-/tus/{id}" and response.status_code in (204, 404, 410) and case.method != "OPTIONS":
        UPLOADS.pop(case.path_parameters["id"], None)
    elif case.path == "/{key}" and response.status_code == 201:
        KEPT.append(case.path_parameters["key"])
    elif case.path == "/api/files" and case.method == "GET" and response.status_code == 200:
        COMING.update(each["id"] for each in response.json() if not each["complete"])


def length_of(case: AnyCase) -> int:
    """Bytes of the body."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
    return int(prepared.headers.get("Content-Length", "0"))
