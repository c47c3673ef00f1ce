"""Parts of a body, each by a request of its own: the sender is back and goes on."""

from beam.body import Body
from beam.errors import BadRequest, TooLarge
from beam.transfer import Transfer
from beam.web.reply import SenderReply
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.upload import Upload


class PartUpload(Upload):
    """A part of the body of ``transfer``, whose sender is back."""

    def __init__(
        self, request: StreamingRequest, scope: Scope, transfer: Transfer, reply: SenderReply | None = None
    ) -> None:
        super().__init__(request, scope, transfer.key, transfer.options, reply)
        self._transfer = transfer

    def go_on(self, offset: int, total: int | None) -> None:
        """Take the part that begins at ``offset``, of a body of ``total`` bytes if that is known.

        :raises BeamError: the refusal; the transfer is as it was.
        """
        transfer, limit, length = self._transfer, self._policy.max_pipe_size, self._request.length
        if total is not None and transfer.length not in (None, total):
            raise BadRequest(f"The file has {transfer.length} bytes, and not {total}; send the one that was begun.")
        total = total if total is not None else transfer.length
        if limit is not None and total is not None and total > limit:
            raise TooLarge(f"The file has {total} bytes; this server takes {limit} at most.")
        if total is not None and offset + (length or 0) > total:
            raise TooLarge(f"The part ends behind the {total} bytes of the file; send what is missing.")
        self._broker.resume(transfer, self, offset)
        if transfer.body is None:
            transfer.body = Body(transfer.spool, total, limit, {}, transfer.options.digest)
        transfer.length = transfer.body.length = total
        transfer.body.begin_part(length)
        self.fill(transfer, transfer.body)

    def admitted(self) -> None:
        self.read_directly()
