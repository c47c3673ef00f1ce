"""How transfers begin: a new one in a store, or one that a former server left there."""

import secrets
from collections.abc import Callable, Mapping
from itertools import count
from time import time

from twisted.internet.interfaces import IReactorTime

from beam.errors import BeamError
from beam.interfaces import IFound, ILastingStore, ISpool, IStore
from beam.options import SendOptions
from beam.policy import Policy
from beam.record import Record, record_of
from beam.transfer import Forward, State, Transfer

START = 4096  # bytes of an unfinished body by which its type is told when its sender is back


class Maker:
    """Makes the transfers of one broker.

    :param name: of the broker, by which its records are found again.
    :param failed: hears that the store cannot go on with a transfer.
    """

    def __init__(
        self,
        clock: IReactorTime,
        policy: Policy,
        stores: Mapping[str, IStore],
        name: str,
        failed: Callable[[Transfer, BeamError], None],
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._stores = stores
        self._name = name
        self._failed = failed
        self._etags = secrets.token_hex(8)  # what no other server's begin with, nor this one's after a restart
        self._turn = count()

    def make(
        self,
        key: str,
        options: SendOptions,
        length: int | None,
        forward: Forward | None,
        upload: str,
        notes: Mapping[str, str],
        in_pieces: bool,
    ) -> Transfer:
        """A new transfer; parameters as those of ``Broker.send``.

        :raises StoreFull: the store has no space for it.
        :raises Unavailable: there is no memory or no descriptor for it now.
        """
        store = self._stores[options.store]
        failed, record = self._ears(lambda: transfer)
        spool: ISpool
        if ILastingStore.providedBy(store) and (self._policy.lasts or options.resume is not None):
            spool = (store.create_pieces if in_pieces else store.create_lasting)(length, failed, record)
        else:
            spool = store.create(length, failed)
        transfer = Transfer(
            key=key,
            options=options,
            etag=f'"{self._etags}-{next(self._turn):x}"',
            started=self._clock.seconds(),
            state=State.STORING if store.keeps else State.WAITING,
            spool=spool,
            keeps=store.keeps,
            created=time(),
            upload=upload,
            notes=dict(notes),
            length=length,
            forward=forward,
        )
        return transfer

    def remake(self, found: IFound, record: Record) -> Transfer:
        """The transfer that ``record`` tells of.

        :raises Unavailable: there is no memory or no descriptor for it now.
        """
        transfer = Transfer(
            key=record.key,
            options=record.options,
            etag=record.etag,
            started=self._clock.seconds(),
            state=State.STORING,
            spool=found.open(record.length, *self._ears(lambda: transfer)),
            keeps=True,
            created=record.created,
            upload=record.upload,
            notes=record.notes,
            offer=record.offer,
            saved=True,
            length=record.length,
            start=b"" if record.whole else found.start(START),
        )
        return transfer

    def _ears(self, whose: Callable[[], Transfer]) -> tuple[Callable[[BeamError], None], Callable[[], bytes]]:
        """What a spool tells and asks of its transfer, which is made after it."""
        return lambda error: self._failed(whose(), error), lambda: record_of(whose(), self._name).encode()
