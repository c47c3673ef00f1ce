"""Forms: the first file of a ``multipart/form-data`` body (RFC 7578), as it comes.

The parsing is the ``multipart`` package's push parser; this file only picks the file out of its events.
"""

from collections.abc import Collection, Iterator

from attrs import frozen
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from beam.errors import MalformedForm, NoFile
from beam.web.fields import filename_in

LONGEST_PART_HEADER = 16 << 10  # bytes
LONGEST_FIELD = 4 << 10  # bytes of a field before the file


@frozen
class FilePart:
    """The headers of the part that is the file.  ``filename`` is not made safe yet."""

    filename: str | None
    content_type: str | None
    disposition: str


@frozen
class FormField:
    """A field that stands before the file."""

    name: str
    value: str


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form with files."""
    return content_type.split(";")[0].strip().lower() == "multipart/form-data"


class FormDecoder:
    """Turns the bytes of a form into its first file.

    :param any_part: whether the first part is the file, whatever it is.
    :param fields: names of the fields that are told of as well.
    :raises MalformedForm: the type names no boundary.
    """

    def __init__(self, content_type: str, any_part: bool = False, fields: Collection[str] = ()) -> None:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        try:
            self._parser = PushMultipartParser(boundary, max_header_size=LONGEST_PART_HEADER)
        except MultipartError:
            raise MalformedForm("The form has no valid boundary in its Content-Type.") from None
        self._any_part = any_part
        self._fields = fields
        self._in_file = False
        self._seen = False
        self._name = ""  # of the field that is being read
        self._value = b""

    def feed(self, data: bytes) -> Iterator[FormField | FilePart | bytes]:
        """The fields and the ``FilePart``, each once, then the bytes of the file.

        :raises MalformedForm: it is no form.
        """
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    disposition = event.header("Content-Disposition") or ""
                    filename = filename_in(disposition)
                    if (filename or self._any_part) and not self._seen:
                        self._seen = self._in_file = True
                        yield FilePart(filename, event.header("Content-Type"), disposition)
                    elif not self._seen and event.name in self._fields:
                        self._name, self._value = event.name, b""
                elif event is None:
                    self._in_file = False
                    if self._name:
                        yield FormField(self._name, self._value.decode(errors="replace"))
                        self._name = ""
                elif self._in_file:
                    yield bytes(event)
                elif self._name:
                    self._value += event
                    if len(self._value) > LONGEST_FIELD:
                        raise MalformedForm(f"The field {self._name} of the form is too long.")
        except MultipartError as error:
            raise MalformedForm(f"The form is malformed: {error}.") from None

    def end(self) -> None:
        """Nothing more will come.

        :raises MalformedForm: the form has not ended.
        :raises NoFile: it had no file.
        """
        try:
            self._parser.close()
        except MultipartError:
            raise MalformedForm("The form has no end; its last boundary is missing.") from None
        if not self._seen:
            raise NoFile("There is no file in the form; send one with curl -F file=@FILE.")
