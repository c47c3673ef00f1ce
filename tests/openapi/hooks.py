"""What schemathesis has to be told of beam, because OpenAPI cannot say it.

How some headers are written (it draws letters and digits only), and which parameters do not go together.
"""

import base64
import re
from itertools import count
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, Response

from beam.web.openapi.pieces import FORMATS
from beam.web.tus_fields import PART

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
UPLOADS: list[str] = []  # names of those that were begun


@schemathesis.hook
def before_call(context: HookContext, case: AnyCase, **kwargs: Any) -> None:
    """Leave out what does not go together with the rest; what is wrong by itself stays."""
    query: dict[str, Any] = case.query or {}
    headers: Any = case.headers or {}
    number = next(NUMBERS)
    if case.path == "/{key}" and case.method in ("PUT", "POST"):
        is_form = (case.media_type or "").startswith("multipart/")
        if is_form:  # a file is in it, also where a body of any type was drawn
            body: dict[str, Any] = {"file": b"x", **(case.body if isinstance(case.body, dict) else {})}
            case.body = body
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
    elif case.path == "/-/tus":
        if "Upload-Length" in headers:
            headers.pop("Upload-Defer-Length", None)
        elif headers.get("Upload-Defer-Length") != "1":
            headers["Upload-Length"] = str(length_of(case))
        if str(headers.get("Upload-Concat", "")).startswith("final"):
            headers.pop("Upload-Concat")
    elif case.path == "/-/tus/{id}":
        if UPLOADS and re.fullmatch("[0-9a-f]{32}", str(case.path_parameters["id"])):
            case.path_parameters["id"] = UPLOADS.pop(0)
        if str(headers.get("Upload-Offset", "")).isdigit():
            headers["Upload-Offset"] = "0"
        if str(headers.get("Upload-Length", "")).isdigit():
            headers.pop("Upload-Length")


@schemathesis.hook
def after_call(context: HookContext, case: AnyCase, response: Response) -> None:
    """Remember what was begun."""
    if case.path == "/-/tus" and response.status_code == 201 and response.headers["upload-offset"] == ["0"]:
        UPLOADS.append(response.headers["location"][0].rpartition("/")[2])


def length_of(case: AnyCase) -> int:
    """Bytes of the body."""
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
    return int(prepared.headers.get("Content-Length", "0"))
