"""The journal of a body that comes in pieces: one line for each, ``start length``, when its bytes are on the disk.

A piece that was given up after its line had been written gets another, with a minus before the length.  What stands
behind the last good line is what a crash left of one that was being written, and counts for nothing.
"""

import errno
import os
import re
from contextlib import suppress
from pathlib import Path
from threading import Lock

from attrs import define, field

from beam.intervals import Intervals

LINE = re.compile(rb"(\d+) (-?)(\d+)")


@define(eq=False)
class Journal:
    """The file at ``path``.

    :param there: what has come; kept by whoever uses this, in the reactor's thread.
    """

    path: Path
    there: Intervals = field(factory=Intervals)
    _size: int = 0  # bytes of good lines
    _lock: Lock = field(init=False, factory=Lock)

    @classmethod
    def read(cls, path: Path, size: int) -> "Journal":
        """The journal at ``path`` of a file with ``size`` bytes.  Blocks.

        A line that cannot be is cut off, with all behind it.
        """
        content = path.read_bytes()
        good, pieces = 0, dict[int, int]()
        for line in content.split(b"\n")[:-1]:
            match = LINE.fullmatch(line)
            if match is None:
                break
            start, length = int(match[1]), int(match[3])
            if match[2] and pieces.get(start) == length:
                del pieces[start]
            elif match[2] or not length or start + length > size:
                break
            else:
                pieces[start] = length
            good += len(line) + 1
        if good < len(content):
            os.truncate(path, good)
        there = Intervals()
        for start, length in pieces.items():
            there.add(start, start + length)
        return cls(path, there, good)

    # These block, and belong into a thread; several may at once.

    def note(self, start: int, length: int) -> None:
        """A piece is on the disk; when this returns, that is too."""
        self._append(b"%d %d\n" % (start, length))

    def strike(self, start: int, length: int) -> None:
        """A piece that was noted is not to be there."""
        self._append(b"%d -%d\n" % (start, length))

    def _append(self, line: bytes) -> None:
        with self._lock:
            fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                if os.pwrite(fd, line, self._size) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fdatasync(fd)
                self._size += len(line)
            except OSError:
                with suppress(OSError):  # the next line takes this one's place in any case
                    os.ftruncate(fd, self._size)
                raise
            finally:
                os.close(fd)
