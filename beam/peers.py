"""The seams between the broker and its peers: whoever sends, whoever receives, and one being served from the other.

Neither need be a connection, nor speak HTTP.
"""

from enum import StrEnum

from zope.interface import Attribute, Interface

from beam.errors import BeamError
from beam.interfaces import IReader
from beam.transfer import Span, Transfer


class News(StrEnum):
    """What a sender may want to hear while its transfer lasts."""

    CAME = "came"  # a receiver is there
    BEGUN = "begun"  # all that were asked for are there, and served
    WHOLE = "whole"  # the last byte is in the store
    LEFT = "left"  # a receiver left before it had the whole


class ISender(Interface):
    """The broker's view of whoever sends."""

    def heard(news: News) -> None:
        """Something has happened to the transfer."""

    def transfer_ended(transfer: Transfer) -> None:
        """The sender's part is over: its outcome is known, or its body is stored.  Called once, if it was admitted."""

    def was_held() -> bool:
        """Whether the pace has held it back since this was last asked."""

    def moved() -> int:
        """Bytes that came so far, for our patience."""

    def peer_gone() -> bool:
        """Whether the peer can be seen to have left, although nothing is being read from it."""

    def cut(error: BeamError) -> None:
        """Leave the transfer, which goes on without it: another connection sends, or this one is silent."""


class IDelivery(Interface):
    """One receiver being served from one transfer."""

    transfer: Transfer = Attribute("what it is served from")
    reader: IReader = Attribute("its cursor")
    span: Span = Attribute("the part that it chose")

    def done(delivered: bool) -> None:
        """It is over: the receiver got its part whole, or not.  May be called again."""


class IReceiver(Interface):
    """The broker's view of whoever receives: it waits for a transfer, then is served from it."""

    peer: str = Attribute("its address, for the log")
    company: int | None = Attribute("how many receivers there are to be, it included; None if it does not say")

    def choose(transfer: Transfer) -> Span:
        """Which part of ``transfer`` it wants.

        :raises BeamError: none of it; the receiver is refused with that error.
        """

    def serve(delivery: IDelivery) -> None:
        """Drain the reader of ``delivery``, and say ``done``."""

    def refuse(error: BeamError) -> None:
        """There will be nothing.  Called at most once, and never after ``serve``."""

    def untaken() -> int:
        """Bytes that were read for it and that the peer is not known to have yet."""

    def cut(error: BeamError) -> None:
        """Leave the delivery that runs: close the connection so that the part is not taken for the whole."""
