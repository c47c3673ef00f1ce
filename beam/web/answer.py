"""Answers: the one place where errors and outcomes become responses."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from twisted.logger import Logger

from beam.errors import BeamError
from beam.web.request import StreamingRequest, error_text

log = Logger()
REASONS = {each.value: each.phrase for each in HTTPStatus} | {460: "Checksum Mismatch"}


def accepts(request: StreamingRequest, media_type: str) -> bool:
    """Whether ``Accept`` names ``media_type``."""
    return any(media_type in value.lower() for value in request.requestHeaders.getRawHeaders("accept", []))


def answer(
    request: StreamingRequest,
    status: int,
    text: str,
    headers: Mapping[str, str] | None = None,
    kind: str | None = None,
) -> None:
    """Write a whole response and end the request; the connection closes behind it if the body is still coming.

    :param kind: media type of ``text``; plain if it is not given.
    """
    body = text.encode()
    request.setResponseCode(status, REASONS.get(status, "").encode())
    if status not in (204, 304):
        if body or kind:
            request.setHeader("content-type", kind or request.words.kind)
        request.setHeader("content-length", str(len(body)))
    request.setHeader("x-content-type-options", "nosniff")
    request.setHeader("cache-control", "no-store")
    for name, value in (headers or {}).items():
        request.setHeader(name, value)
    if not request.body_is_whole:
        request.setHeader("connection", "close")
    request.write(b"" if request.method == b"HEAD" else body)
    request.conclude()


def refuse(request: StreamingRequest, error: BeamError) -> None:
    """Answer with ``error``: one sentence, or JSON for those who prefer it."""
    if error.status == 304:
        answer(request, 304, "", error.headers)
        return
    as_json = accepts(request, "application/json") and not accepts(request, "text/html")
    status, sentence = request.words.of(error, request.below, request.method.decode("ascii", "replace"))
    if request.words.problems:
        kind, text = problem_text(status, sentence)
    else:
        kind, text = error_text(status, sentence, as_json, request.words.kind)
    answer(request, status, text.decode(), error.headers, kind)


def problem_text(status: int, sentence: str) -> tuple[str, bytes]:
    """The media type and the body of a problem (RFC 9457, section 3)."""
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": sentence}
    return "application/problem+json", json.dumps(problem, ensure_ascii=False).encode() + b"\n"


def admit_mistake(request: StreamingRequest) -> None:
    """Answer with 500 while an exception that nobody expected is handled; the log has it."""
    log.failure("a request failed")
    refuse(request, BeamError("This server made a mistake; the operator finds it in the log."))
