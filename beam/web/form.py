"""Forms: the first file of a ``multipart/form-data`` body (RFC 7578), as it comes.

The parsing is the ``multipart`` package's push parser; this file only picks the file out of its events.
"""

from collections.abc import Iterator

from attrs import frozen
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from beam.errors import BadRequest
from beam.web.fields import filename_in

LONGEST_PART_HEADER = 16 << 10  # bytes


@frozen
class FilePart:
    """The headers of the part that is the file.  ``filename`` is not made safe yet."""

    filename: str
    content_type: str | None


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form with files."""
    return content_type.split(";")[0].strip().lower() == "multipart/form-data"


class FormDecoder:
    """Turns the bytes of a form into its first file.

    :raises BadRequest: the type names no boundary.
    """

    def __init__(self, content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        try:
            self._parser = PushMultipartParser(boundary, max_header_size=LONGEST_PART_HEADER)
        except MultipartError:
            raise BadRequest("The form has no valid boundary in its Content-Type.") from None
        self._in_file = False
        self._seen = False

    def feed(self, data: bytes) -> Iterator[FilePart | bytes]:
        """The ``FilePart`` once, then the bytes of the file.

        :raises BadRequest: it is no form.
        """
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    filename = filename_in(event.header("Content-Disposition") or "")
                    if filename and not self._seen:
                        self._seen = self._in_file = True
                        yield FilePart(filename, event.header("Content-Type"))
                elif event is None:
                    self._in_file = False
                elif self._in_file:
                    yield bytes(event)
        except MultipartError as error:
            raise BadRequest(f"The form is malformed: {error}.") from None

    def end(self) -> None:
        """Nothing more will come.

        :raises BadRequest: the form has not ended, or had no file.
        """
        try:
            self._parser.close()
        except MultipartError:
            raise BadRequest("The form has no end; its last boundary is missing.") from None
        if not self._seen:
            raise BadRequest("There is no file in the form; send one with curl -F file=@FILE.")
