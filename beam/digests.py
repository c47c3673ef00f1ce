"""Digests of bodies, by the names that they have on the wire."""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol


class Hash(Protocol):
    """What takes bytes and gives a digest."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 of ISO 3309, as four bytes in network order."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        """Take ``data``."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """Of all that was taken."""
        return self._value.to_bytes(4, "big")


DIGESTS: Mapping[str, Callable[[], Hash]] = {  # RFC 9530, section 5
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
}
CHECKSUMS: Mapping[str, Callable[[], Hash]] = {  # of tus
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "crc32": Crc32,
}
HASHES: Mapping[str, Callable[[], Hash]] = {**DIGESTS, **CHECKSUMS}
