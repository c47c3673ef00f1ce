"""Parts of a body, each by a request of its own: the sender is back and goes on."""

from beam.body import Body
from beam.errors import BadRequest, BeamError, ChecksumMismatch, DigestMismatch, Gone, TakenOver, TooLarge
from beam.interfaces import ISpool
from beam.pump import Pump
from beam.transfer import Transfer
from beam.web.reply import SenderReply
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.upload import Upload, body_of


class PartUpload(Upload):
    """A part of the body of ``transfer``, whose sender is back.

    :ivar is_first: whether its answer tells how to go on: if it is never given, nobody can.
    """

    is_first = False

    def __init__(
        self, request: StreamingRequest, scope: Scope, transfer: Transfer, reply: SenderReply | None = None
    ) -> None:
        super().__init__(request, scope, transfer.key, transfer.options, reply)
        self._transfer = transfer

    def go_on(self, offset: int, total: int | None, stop: int | None = None) -> None:
        """Take the part that begins at ``offset``, of a body of ``total`` bytes if that is known.

        :param stop: where the part ends at the latest, if not where the request does.
        :raises BeamError: the refusal; the transfer is as it was.
        """
        transfer, limit, length = self._transfer, self._policy.max_pipe_size, self._request.length
        length = length if stop is None else stop - offset
        before = transfer.length
        if total is not None and before not in (None, total):
            raise BadRequest(f"The file has {before} bytes, and not {total}; send the one that was begun.")
        total = total if total is not None else before
        if total is not None and limit is not None and total > limit:
            raise TooLarge(f"The file has {total} bytes; this server takes {limit} at most.")
        transfer.check_offset(offset)  # a wrong one is told before what else is wrong with the part
        if total is not None and offset + (length or 0) > total:
            raise TooLarge(f"The part ends behind the {total} bytes of the file; send what is missing.")
        self._broker.resume(transfer, self, offset)
        if self._told:  # the connection whose place this one took has brought the next request
            return
        if transfer.body is None:
            transfer.body = body_of(transfer, self._policy, {})
        if total != before:
            transfer.length = transfer.body.length = total
            self._broker.save(transfer)
        transfer.body.begin_part(length)
        self.take_part(transfer.body)

    def take_part(self, body: Body) -> None:
        """Take what the request brings."""
        self.fill(self._transfer, body)

    def admitted(self) -> None:
        self.read_directly()

    def is_last(self) -> bool:
        return self._body.is_whole

    def cut(self, error: BeamError) -> None:
        if self.is_first and not self._told and not isinstance(error, TakenOver):
            self._broker.fail(self._transfer, error)
        else:
            super().cut(error)

    def _lost(self) -> None:
        forsaken = self.is_first and not self._is_done
        super()._lost()
        if forsaken:
            self._broker.given_up(self._transfer)


class CheckedPart(PartUpload):
    """A part that nobody sees before its checksum is right: until then it lies in a spool of its own.

    :param checksum: by the name of its algorithm.
    """

    def __init__(
        self,
        request: StreamingRequest,
        scope: Scope,
        transfer: Transfer,
        reply: SenderReply,
        checksum: dict[str, bytes],
    ) -> None:
        super().__init__(request, scope, transfer, reply)
        self._checksum = checksum
        self._staging: ISpool | None = None
        self._pump: Pump | None = None

    @property
    def _is_done(self) -> bool:
        return self._told  # what lies in a spool of its own is let go with it

    def take_part(self, body: Body) -> None:
        self._target = body
        try:
            store = self._broker.stores[self._transfer.options.store]
            self._staging = store.create(self._request.length, self.cut)
        except BeamError:
            self._leave()
            raise
        self.fill(self._transfer, Body(self._staging, self._request.length, None, self._checksum, None))

    def pauseProducing(self) -> None:
        if self._transfer.keeps:
            super().pauseProducing()
        elif self._body.missing != 0:
            self.cut(TooLarge("A part with a checksum has to fit into the memory for it; send smaller ones."))

    def _finish(self) -> None:
        if self._told or self._staging is None:
            return
        self._request.resume_reading()
        self._leave_pace()
        try:
            self._body.end()
        except DigestMismatch:
            self.cut(ChecksumMismatch("The checksum of what arrived is not the announced one; send the part again."))
        except BadRequest as error:
            self.cut(error)
        else:
            stored = self._staging.finish()
            if self._transfer.keeps:
                stored.addCallback(self._publish)
            else:
                self._publish()

    def _publish(self, _: None = None) -> None:
        """Let the part become one of the body."""
        if not self._told and self._staging is not None:
            self._body = self._target
            self._pump = Pump(self._staging.open(0, True), self._target, self._published)
            self._pump.start()

    def _published(self, error: BeamError | None) -> None:
        if error is not None:
            self._fail(error)
        else:
            super()._finish()

    def _detach(self) -> None:
        super()._detach()
        pump, self._pump = self._pump, None
        staging, self._staging = self._staging, None
        if pump is not None:
            pump.stop()
        if staging is not None:
            staging.abort(Gone("The part has ended."))
