"""One chunk of a file: a request's body becomes a piece of a body that others fill as well.

The way of a byte is that of every upload, into a piece in place of the spool.  What is there already is read and
forgotten, because many clients read no answer before they have sent all.
"""

from math import inf

from attrs import evolve
from twisted.internet.defer import ensureDeferred

from beam.body import Body
from beam.deadlines import Deadline
from beam.errors import BadRequest, BeamError, Gone, RequestTimeout, UnsupportedMediaType
from beam.flow import PARAMETERS, Chunk
from beam.interfaces import IForwardTarget, ISpool
from beam.options import one
from beam.patience import Patience
from beam.sending import TICK
from beam.transfer import Offer
from beam.web.answer import answer, refuse
from beam.web.fields import announced_digests
from beam.web.files.assembly import GONE, Assemblies, Assembly, start_check
from beam.web.files.file import DELETED, FileReply, file_of, tell
from beam.web.form import is_form
from beam.web.form_upload import FormUpload
from beam.web.media import type_of
from beam.web.offer import offer_of
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.secret import bearer
from beam.web.upload import Upload

EXISTS = "Chunk already exists"
STILL = 3.0  # seconds without a byte; a sender whose connection vanished has come back by then, or soon will


def upload_chunk(request: StreamingRequest, scope: Scope, assemblies: Assemblies, query: dict[str, list[str]]) -> None:
    """Take a chunk, as a form or as it is.

    :raises BeamError: the refusal.
    """
    given = parameters(query)
    content_type = request.field("content-type") or ""
    announced = announced_digests(list(request.requestHeaders.getRawHeaders("content-digest", [])))
    reply = FileReply(request, scope)
    if is_form(content_type) and announced:
        raise BadRequest("A digest field of a form would cover the form; write it into the field flowChunkDigest.")
    chunk = (
        ChunkForm(request, scope, "", scope.options, content_type, reply, PARAMETERS)
        if is_form(content_type)
        else ChunkUpload(request, scope, "", scope.options, reply)
    )
    chunk.prepare(assemblies, given)
    chunk.check_secret(bearer(request))
    chunk.begin(announced)


def probe(request: StreamingRequest, assemblies: Assemblies, query: dict[str, list[str]]) -> None:
    """Tell whether a chunk is there.

    :raises BeamError: the refusal.
    """
    chunk, assembly = assemblies.find(parameters(query))
    if assembly is None or not assembly.has(chunk):
        answer(request, 204, "")
    else:
        tell_of_chunk(request, 200, assembly, EXISTS)


def parameters(query: dict[str, list[str]]) -> dict[str, str]:
    """Those of Flow.js in ``query``; it may have others, for other servers.

    :raises BadRequest: one is given twice.
    """
    return {name: value for name in PARAMETERS if (value := one(query, name)) is not None}


def tell_of_chunk(request: StreamingRequest, status: int, assembly: Assembly, message: str) -> None:
    """Answer with the file if it is there, else with ``message``."""
    transfer = assembly.transfer
    if transfer.whole_at is not None:
        tell(request, status, file_of(transfer).shown())
    else:
        tell(request, status, {"message": message})


class ChunkUpload(Upload):
    """A chunk as a raw body."""

    def prepare(self, assemblies: Assemblies, given: dict[str, str]) -> None:
        """Say what is known of it before its bytes come.

        :param given: parameters that stand in the query.
        """
        self._assemblies = assemblies
        self._given = given
        self._piece: ISpool | None = None  # where its bytes go, if they are wanted
        self._taken = False  # whether it is on its way, for others that bring it
        self._came = 0  # bytes, but for those that were read directly
        self._watch = Deadline(self._look)

    def parameters(self) -> dict[str, str]:
        """What was said of the chunk before its bytes."""
        return self._given

    def begin(self, announced: dict[str, bytes], target: IForwardTarget | None = None) -> None:
        given = self.parameters()
        if "flowChunkDigest" in given:
            announced = announced_digests([given["flowChunkDigest"]])
        chunk, assembly = self._assemblies.find(given)
        self._chunk = chunk = self.sized(chunk)
        if assembly is not None and assembly.has(chunk):
            self._join(assembly)
            if self._request.asks_to_continue:
                self._tell(200, EXISTS)
            else:
                self._forget()
            return
        self._join(self._assemblies.take(assembly, chunk, self))
        self._taken = True
        try:
            self._begin_chunk(announced)
        except BeamError as error:
            self._assemblies.left(self._assembly, chunk, self, error)
            raise

    def sized(self, chunk: Chunk) -> Chunk:
        """``chunk`` with its length.

        :raises BadRequest: it cannot have the one that it has.
        """
        length = self.body_length()
        if length is not None:
            chunk.check(length)
        elif chunk.length is None:
            raise BadRequest(
                "Nobody has said how long the last chunk is; send it with flowTotalSize or flowCurrentChunkSize."
            )
        return chunk if length is None else evolve(chunk, length=length)

    def body_length(self) -> int | None:
        """Bytes of the chunk, if the head tells."""
        return self._request.length

    def _join(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._transfer = assembly.transfer

    def _forget(self) -> None:
        """Read what comes, and keep nothing of it."""
        self._watch_from(0)
        self._request.on_lost(self._lost, self._survives_half_close)
        self._request.take_body(self)

    def _begin_chunk(self, announced: dict[str, bytes]) -> None:
        transfer, chunk = self._transfer, self._chunk
        if transfer.offer is None:
            plan = chunk.plan
            kind = type_of(b"", b"", plan.filename)
            offer = offer_of(self._request, self._policy, transfer, plan.size, plan.filename, kind, "")
            self._broker.offer(transfer, offer)
        if not chunk.length:  # of an empty file
            self._forget()
            return
        self._piece = self._assembly.spool.piece(chunk.start, chunk.length, self._fail)
        self._watch_from(chunk.start)
        check = start_check(self._policy, chunk)
        self.fill(transfer, Body(self._piece, chunk.start + chunk.length, None, announced, None, check=check))

    def admitted(self) -> None:
        self.read_directly()

    def described(self, filename: str | None, content_type: str | None, disposition: str) -> Offer:
        assert self._transfer.offer is not None, "the file is known without them"
        return self._transfer.offer

    def offer(self, offer: Offer) -> None:
        """The first chunk has told."""

    def moved(self) -> int:
        return self._body.received if self._piece is not None else self._came

    def take(self, data: bytes) -> None:
        self._came += len(data)
        if self._piece is None or self._told:
            return
        if self._came > (self._chunk.length or 0):
            self._fail(BadRequest(f"The chunk has more than {self._chunk.length} bytes; send it again."))
        else:
            super().take(data)

    # The end.

    def _finish(self) -> None:
        if self._piece is None and self._transfer.outcome is not None:
            self._fail(Gone(DELETED))  # there is no piece that would tell
        else:
            super()._finish()

    def settle(self) -> None:
        if self._told:
            return
        self._broker.at(self._watch, inf)
        if self._piece is not None:
            self._chunk.check((self._chunk.length or 0) - (self._body.missing or 0))
            self._body.end()
        elif self._assembly.has(self._chunk):
            self._tell(200, EXISTS)
            return
        elif self._came:
            raise BadRequest("The file is said to be empty (flowTotalSize) and is not; send it again.")
        ensureDeferred(self._arrive())

    async def _arrive(self) -> None:
        """Answer when the chunk is safe, or the file if this was the last that lacked."""
        assembly, chunk = self._assembly, self._chunk
        await self._assemblies.settle(assembly, chunk)
        if self._piece is not None:
            await self._piece.finish()
        if self._transfer.outcome is not None:
            return
        self._assemblies.there(assembly, chunk)
        if assembly.is_complete and not assembly.ends:
            self._broker.resume(self._transfer, self, self._transfer.spool.head)
            await self._assemblies.end(assembly)  # which tells us how
        else:
            self._tell(201, f"Chunk {chunk.number} uploaded successfully")

    def _tell(self, status: int, message: str) -> None:
        if not self._told and not self._left:
            tell_of_chunk(self._request, status, self._assembly, message)
        self._told = True
        self._detach()

    def stands_still(self) -> bool:
        """See ``Bringer``; what waits for us, or has brought all, does not."""
        return not self._ended and self._broker.clock.seconds() - self._patience.since >= STILL

    def _fail(self, error: BeamError) -> None:
        """The chunk is not taken, or the file has ended; others of its chunks are as they were."""
        if isinstance(error, UnsupportedMediaType) and self._transfer.outcome is None:
            self._broker.fail(self._transfer, error)  # which tells all of its chunks
        if self._told:
            return
        self._told = True
        self._give_up(error)
        if not self._left:
            refuse(self._request, error)

    def _give_up(self, error: BeamError) -> None:
        self._broker.at(self._watch, inf)
        self._detach()
        self._pieces.clear()
        if self._piece is not None:
            self._piece.abort(error)
        if self._taken:
            self._assemblies.left(self._assembly, self._chunk, self, error)

    def _lost(self) -> None:
        self._left = True
        self._detach()
        if not self._told and not self._ended:
            self._told = True
            self._give_up(GONE)

    def _watch_from(self, start: int) -> None:
        """Look from now on whether the sender is gone, or idle; ``start`` is what it has moved."""
        now = self._broker.clock.seconds()
        self._patience = Patience(self._policy.idle_timeout, now, start)
        self._broker.at(self._watch, now + TICK)

    def _look(self, now: float) -> None:
        """Give up a sender that is gone, or idle."""
        fills = self._piece is not None
        waits = fills and (self._body.intake.paused or self.was_held())
        if fills and self.peer_gone():
            self._lost()
        elif self._patience.is_over(now, self.moved(), not waits):
            self._fail(RequestTimeout("Nothing came of the chunk for too long; send it again."))
        else:
            if fills:
                self._broker.away(self._transfer)  # its time begins with the last byte
            self._broker.at(self._watch, now + TICK)


class ChunkForm(FormUpload, ChunkUpload):
    """A chunk in a form, whose fields before the file describe it."""

    def parameters(self) -> dict[str, str]:
        return {**self._given, **self._fields}

    def body_length(self) -> int | None:
        return None
