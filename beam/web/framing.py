"""Bodies that a direct end receives in place of Twisted: the decoder of the request is told what it missed.

What is received lies in the spool's own memory.  Of a body of known length all of it is the body's; of one in chunks
(RFC 9112, 7.1) the lines between the chunks are Twisted's to read, and the chunks move together over their place.

Private names of Twisted are used here; ``tests/test_twisted_contract.py`` pins each.
"""

from typing import Any, Protocol

LINE = 32  # bytes of a chunk's line that are looked at at a time


class Framing(Protocol):
    """What the wire adds to a body."""

    @property
    def missing(self) -> int | None:
        """Bytes of the connection that the body lacks at least; ``None`` if only its end tells."""

    def decode(self, view: memoryview, n: int) -> int:
        """``n`` bytes of the connection are in ``view``: leave the body's there; how many they are."""

    def settle(self) -> None:
        """What ``decode`` found has been taken: let Twisted have what is behind it, such as the body's end."""


class Identity:
    """A body of known length."""

    def __init__(self, channel: Any) -> None:
        self._decoder = channel._transferDecoder

    @property
    def missing(self) -> int | None:
        return int(self._decoder.contentLength)

    def decode(self, view: memoryview, n: int) -> int:
        self._decoder.contentLength -= n
        return n

    def settle(self) -> None:
        if self._decoder.contentLength == 0 and self._decoder.finishCallback is not None:
            self._decoder.dataReceived(b"")


class Chunked:
    """A body in chunks."""

    missing = None

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._decoder = channel._transferDecoder
        self._behind = b""  # the last chunk, and what is behind it

    def decode(self, view: memoryview, n: int) -> int:
        decoder = self._decoder
        at = filled = 0
        while at < n:
            if decoder.state == "BODY":
                step = min(decoder.length, n - at)
                if at > filled:
                    view[filled : filled + step] = view[at : at + step]
                at += step
                filled += step
                decoder.length -= step
                if not decoder.length:
                    decoder.state = "CRLF"
            elif decoder.state == "TRAILER":  # the body's end must not be told before its last bytes are taken
                self._behind = bytes(view[at:n])
                break
            else:
                line = bytes(view[at : min(at + LINE, n)])
                line = line[: line.find(b"\n", 2 if decoder.state == "CRLF" else 0) + 1] or line
                self._channel.dataReceived(line)
                at += len(line)
                if self._channel.discarding:  # it was malformed
                    break
        return filled

    def settle(self) -> None:
        if self._behind:
            behind, self._behind = self._behind, b""
            self._channel.dataReceived(behind)
