"""Files that come in chunks: which file a chunk is of, whether it is there, and who brings one now.

What is known of such a file is noted with its transfer, so that a server that starts again finds it.
"""

from typing import Protocol
from uuid import uuid4

from attrs import define, evolve, field

from beam.broker import Broker
from beam.errors import BeamError, KeyInUse, SenderLost, TakenOver, TooLarge
from beam.excerpt import excerpt
from beam.flow import Chunk, Plan, chunk_of, plan_of
from beam.interfaces import IPieceSpool
from beam.options import SendOptions
from beam.policy import Policy
from beam.sending import TAKEN_OVER
from beam.transfer import Transfer
from beam.web.media import HEAD, TAIL, TypeCheck, type_check, type_of

OTHER_FILE = "Another file has this identifier (flowIdentifier): its name or its numbers differ; choose another one."
GONE = SenderLost("The sender left before the end of its chunk.")
ON_ITS_WAY = "Another connection is sending chunk {}; wait for it, or send another chunk."


class Bringer(Protocol):
    """Who brings a chunk."""

    def stands_still(self) -> bool:
        """Whether nothing has come for so long that its connection may be dead."""

    def broken(self, error: BeamError) -> None:
        """It is not to go on."""


@define(eq=False)
class Assembly:
    """One file that comes in chunks.

    :ivar coming: who brings those that are on their way, by their numbers.
    :ivar arrived: whether there is any.
    :ivar noted: whether what is known of it now is safe.
    :ivar ends: whether every chunk is there, and somebody sees to what follows.
    """

    plan: Plan
    transfer: Transfer
    coming: dict[int, Bringer] = field(factory=dict)
    arrived: bool = False
    noted: bool = False
    ends: bool = False

    @property
    def spool(self) -> IPieceSpool:
        """Where its chunks go."""
        spool = self.transfer.spool
        assert IPieceSpool.providedBy(spool)
        return spool

    def has(self, chunk: Chunk) -> bool:
        """Whether ``chunk`` is there."""
        return self.transfer.is_whole or bool(chunk.length and self.spool.has(chunk.start, chunk.length))

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is there."""
        return self.spool.head == self.transfer.length


class Assemblies:
    """Those of one scope, by their identifiers."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._found: dict[str, Assembly] | None = None
        broker.observers.append(self._ended)

    def _ended(self, transfer: Transfer, now: float) -> None:
        identifier = transfer.notes.get("flowIdentifier")
        if identifier is not None and self._found is not None:
            self._found.pop(identifier, None)

    def _all(self) -> dict[str, Assembly]:
        """At first those that a former server left."""
        if self._found is None:
            noted = [each for each in self._broker.rendezvous.transfers.values() if "flowIdentifier" in each.notes]
            made = [Assembly(plan_of(each.notes), each, arrived=True, noted=True) for each in noted]
            self._found = {each.plan.identifier: each for each in made}
        return self._found

    def find(self, given: dict[str, str]) -> tuple[Chunk, Assembly | None]:
        """The chunk that ``given`` describes, and its file if that has begun.

        :raises BadRequest: there is no such chunk.
        :raises KeyInUse: the identifier is that of another file.
        """
        plan = plan_of(given)
        assembly = self._all().get(plan.identifier)
        size = None if assembly is None else assembly.transfer.length
        if assembly is not None and not evolve(assembly.plan, size=size).agrees(plan):
            raise KeyInUse(OTHER_FILE)
        return chunk_of(given, size), assembly

    def take(self, assembly: Assembly | None, chunk: Chunk, bringer: Bringer) -> Assembly:
        """``chunk`` begins to come, of ``assembly`` or of a file that begins with it.

        Who else brings it keeps its place, unless it stands still: a client comes back before we see that it left.

        :raises BeamError: it is not taken.
        """
        broker, plan = self._broker, chunk.plan
        limit, least = broker.policy.max_pipe_size, chunk.start + (chunk.length or 0)
        least = max(least, (plan.chunks - 1) * plan.chunk_size)
        former = None if assembly is None else assembly.coming.get(chunk.number)
        if former is not None and not former.stands_still():
            raise KeyInUse(ON_ITS_WAY.format(chunk.number), {"retry-after": "1"})
        if limit is not None and least > limit:
            raise TooLarge(f"The file has at least {least} bytes; this server takes {limit} at most.")
        if assembly is None:
            options = SendOptions(store=next(iter(broker.stores)), resume=broker.policy.upload_ttl)
            transfer = broker.send(str(uuid4()), options, plan.size, None, notes=plan.notes, in_pieces=True)
            assembly = self._all()[plan.identifier] = Assembly(plan, transfer)
        assembly.coming[chunk.number] = bringer
        broker.away(assembly.transfer)
        if former is not None:
            former.broken(TakenOver(TAKEN_OVER))
        return assembly

    def left(self, assembly: Assembly, chunk: Chunk, bringer: Bringer, error: BeamError) -> None:
        """``bringer`` brings ``chunk`` no more; a file of which nothing is there is let go."""
        if assembly.coming.get(chunk.number) is bringer:
            del assembly.coming[chunk.number]
        if assembly.transfer.outcome is None and not assembly.ends:
            if assembly.coming or assembly.arrived:
                self._broker.away(assembly.transfer)
            else:
                self._broker.fail(assembly.transfer, error)

    async def settle(self, assembly: Assembly, chunk: Chunk) -> None:
        """``chunk`` has come, whole and right: fires when what is known of its file is safe.

        The length of the file stands there before its last chunk does, so that it is not asked for again.
        """
        transfer = assembly.transfer
        if chunk.is_last and transfer.length is None:
            transfer.length = chunk.start + (chunk.length or 0)
            assembly.noted = False
        if not assembly.noted:
            await self._broker.save(transfer)
            assembly.noted = True

    def there(self, assembly: Assembly, chunk: Chunk) -> None:
        """``chunk`` is safe."""
        del assembly.coming[chunk.number]
        assembly.arrived = True
        if not assembly.ends:
            self._broker.away(assembly.transfer)

    async def end(self, assembly: Assembly) -> None:
        """Every chunk is there: the file is whole if it is one that is taken."""
        transfer, broker = assembly.transfer, self._broker
        assembly.ends = True
        try:
            await look_at(transfer, broker.policy)
        except BeamError as error:
            broker.fail(transfer, error)
        if transfer.outcome is None:
            broker.whole(transfer, {})


class StartCheck(TypeCheck):
    """Looks at the start of a file; its end is looked at when it is whole."""

    def end(self) -> None:
        """That was not all."""


def start_check(policy: Policy, chunk: Chunk) -> StartCheck | None:
    """What ``chunk`` has to pass, if anything."""
    if chunk.number > 1 or not (policy.allow_types or policy.deny_types):
        return None
    check = StartCheck(policy.allow_types, policy.deny_types)
    check.filename = chunk.plan.filename
    return check


async def look_at(transfer: Transfer, policy: Policy) -> None:
    """See from its start and its end what the file is.

    :raises UnsupportedMediaType: it is not taken.
    """
    spool, size = transfer.spool, transfer.spool.head
    head = await excerpt(spool, 0, min(size, HEAD))
    tail = await excerpt(spool, max(HEAD, size - TAIL), size)
    offer, check = transfer.offer, type_check(policy)
    assert offer is not None
    if check is not None:
        check.filename = offer.filename
        check.take(memoryview(head))
        check.take(memoryview(tail))
        check.end()
    transfer.offer = evolve(offer, content_type=type_of(head, tail, offer.filename))
