"""A bounded number of bytes that many share: the memory of all rings, the space of a disk store."""

from attrs import define


@define(eq=False)
class Quota:
    """``used`` exceeds ``cap`` only by what was there already; both in bytes."""

    cap: int
    used: int = 0

    @property
    def free(self) -> int:
        """Bytes that can still be taken."""
        return max(0, self.cap - self.used)

    def take(self, n: int) -> bool:
        """Charge ``n`` bytes if they fit; whether they did."""
        if n > self.free:
            return False
        self.used += n
        return True

    def owe(self, n: int) -> None:
        """Charge ``n`` bytes that are there already, whether they fit or not."""
        self.used += n

    def give(self, n: int) -> None:
        """Return ``n`` bytes that were taken."""
        self.used -= n
        assert self.used >= 0, "more returned than taken"
