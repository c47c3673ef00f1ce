"""beam carries a file from a sender to its receivers while it is still being sent.

The way of a byte is in ``docs/architecture.md``: upload socket, spool, download socket.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("beam-relay")
except PackageNotFoundError:  # a source tree that nobody installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
