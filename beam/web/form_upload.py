"""Sending by a form: its first file is the transfer, and fields may stand before it."""

import re
from collections.abc import Callable, Collection
from math import inf

from beam.deadlines import Deadline
from beam.errors import BadRequest, BeamError, NoFile, RequestTimeout
from beam.interfaces import IForwardTarget
from beam.options import SendOptions
from beam.web.answer import refuse
from beam.web.form import FilePart, FormDecoder, FormField
from beam.web.reply import SenderReply
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.upload import Upload

FIELDS = ("authentication", "file-size")  # of a form, before its file


class FormUpload(Upload):
    """A form: its first file is the transfer, which begins when that part's headers are there.

    Where fields may stand before the file, it is admitted only then: they say who sends, and how much.

    :param known: names of more fields that may.
    """

    doubts_length = True

    def __init__(
        self,
        request: StreamingRequest,
        scope: Scope,
        key: str,
        options: SendOptions,
        content_type: str,
        reply: SenderReply | None = None,
        known: Collection[str] = (),
    ) -> None:
        super().__init__(request, scope, key, options, reply)
        self._fields: dict[str, str] = {}
        self._awaited: Callable[[], None] | None = None  # admits it
        self._limit = Deadline(lambda _: self._fail(RequestTimeout("The file of the form did not come in time.")))
        self._known = (*known, *(FIELDS if scope.policy.form_fields else ()))
        self._decoder = FormDecoder(content_type, scope.policy.any_part, self._known)

    def check_secret(self, shown: str | None) -> None:
        if shown is not None or not self._policy.form_fields:
            super().check_secret(shown)
            self._fields["authentication"] = shown or ""

    def begin(self, announced: dict[str, bytes], target: IForwardTarget | None = None) -> None:
        if self._known:
            self._awaited = lambda: super(FormUpload, self).begin(announced, target)
            self._broker.at(self._limit, self._broker.clock.seconds() + self._policy.idle_timeout)
            self._request.on_lost(self._await_no_more, lambda: False)
            self._request.take_body(self)
        else:
            super().begin(announced, target)

    def file_length(self) -> int | None:
        text = self._fields.get("file-size")
        if text is None:
            return None
        if not re.fullmatch("[0-9]{1,18}", text):
            raise BadRequest("The field file-size of the form is not a number of bytes; it has digits only.")
        return int(text)

    def admitted(self) -> None:
        """The file's headers come later."""

    def received(self, data: bytes) -> None:
        try:
            for event in self._decoder.feed(data):
                if isinstance(event, FormField):
                    self._fields.setdefault(event.name, event.value)
                elif isinstance(event, FilePart):
                    if self._awaited is not None:
                        super().check_secret(self._fields.get("authentication"))
                        self._awaited()
                        self._await_no_more()
                    if self._transfer.outcome is None:
                        self.offer(self.described(event.filename, event.content_type, event.disposition))
                elif self._transfer.outcome is None:
                    self.take(event)
        except BeamError as error:
            self._fail(error)

    def _await_no_more(self) -> None:
        self._awaited = None
        self._broker.at(self._limit, inf)

    def ended(self) -> None:
        if self._awaited is None:
            super().ended()
        else:
            self._fail(NoFile("There is no file in the form; send one with curl -F file=@FILE."))

    def _fail(self, error: BeamError) -> None:
        if self._awaited is None:
            super()._fail(error)
        else:
            self._await_no_more()
            refuse(self._request, error)

    def check_end(self) -> None:
        self._decoder.end()
