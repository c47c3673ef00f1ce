"""How long a peer may do nothing, or too little, where it could do something."""

from attrs import define


@define(eq=False)
class Patience:
    """Watches one number that grows as a peer moves bytes.  Times in seconds.

    :param limit: how long it may stand still.
    :param since: from when it is watched.
    """

    limit: float
    since: float
    seen: int = 0

    def is_over(self, now: float, position: int, could: bool, least: float = 0) -> bool:
        """Whether the peer has stood still for too long.

        :param position: bytes that it has moved so far.
        :param could: whether it could have moved one; if not, the time begins anew.
        :param least: bytes per second that it has to move; 0 for any at all.
        """
        if could and not least and position != self.seen:
            self.seen, self.since = position, now
            return False
        if could and now - self.since < self.limit:
            return False
        moved, passed = position - self.seen, now - self.since
        self.seen, self.since = position, now
        return could and (moved == 0 or moved < least * passed)
