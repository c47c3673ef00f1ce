"""What the sender of a part hears by tus 1.0.0."""

from collections.abc import Mapping
from time import time

from twisted.internet.defer import Deferred, succeed
from twisted.web.http import datetimeToString

from beam.errors import BeamError
from beam.peers import News
from beam.transfer import Transfer
from beam.web.answer import answer, refuse
from beam.web.request import StreamingRequest


def progress(transfer: Transfer, absence: float | None) -> dict[str, str]:
    """How far an upload is, and until when it can go on.

    :param absence: seconds that its sender has from now on, if there is more to come.
    """
    headers = {"upload-offset": str(transfer.spool.head)}
    if absence is not None and not transfer.is_whole:
        headers["upload-expires"] = datetimeToString(time() + absence).decode()
    return headers


class TusReply:
    """A status without a text.

    :param status: of success.
    :param headers: of success, besides those that tell of the offset.
    :param saved: what has to be so before.
    """

    def __init__(
        self,
        request: StreamingRequest,
        status: int,
        headers: Mapping[str, str] | None = None,
        saved: "Deferred[None] | None" = None,
    ) -> None:
        self._request = request
        self._status = status
        self._headers = headers or {}
        self._saved = saved or succeed(None)
        self._is_over = False

    def begin(self, transfer: Transfer, continued: bool) -> None:
        """Nothing is said yet."""
        self._transfer = transfer

    def heard(self, news: News) -> None:
        """One who begins has to know how to go on, and who may receive, even if nobody is there to take the whole."""
        if self._status == 201 and news is News.WHOLE:
            self.parted(self._transfer)

    def parted(self, transfer: Transfer) -> None:
        """Tell where it goes on."""
        if not self._is_over:
            self._is_over = True
            headers = {**self._headers, **progress(transfer, transfer.options.resume)}
            self._saved.addCallback(lambda _: answer(self._request, self._status, "", headers))

    def end(self, transfer: Transfer) -> None:
        """Tell that it is there, or why it is not."""
        if transfer.error is None:
            self.parted(transfer)
        else:
            self.dismiss(transfer.error)

    def dismiss(self, error: BeamError) -> None:
        """Say so."""
        if not self._is_over:
            self._is_over = True
            refuse(self._request, error)

    def leave(self) -> None:
        """Nothing was to come."""
