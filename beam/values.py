"""How values are written on the command line and in queries: text becomes a number, a word or a switch.

Values that cannot be are refused with a sentence, never bent.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import inf

from beam.target import Pattern, parse_pattern

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(text: str) -> int:
    """Bytes from ``500``, ``64K``, ``1G`` (powers of 1024).

    :raises ValueError: it is no size.
    """
    match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", text)
    if not match:
        raise ValueError(f"{text!r} is not a size: write digits and perhaps K, M, G or T, such as 500M")
    return int(match[1]) * UNITS[match[2]]


def rate(text: str) -> int:
    """Bytes per second, more than none, written as a size.

    :raises ValueError: it is no such number.
    """
    if not size(text):
        raise ValueError("it is more than 0 bytes per second")
    return size(text)


def media_types(text: str) -> tuple[str, ...]:
    """Media types (RFC 9110, 8.3.1) with commas between, in lower case; ``image/*`` is all of ``image``.

    :raises ValueError: one of them is none.
    """
    return tuple(media_type(each) for each in text.split(",")) if text else ()


def media_type(text: str) -> str:
    """One media type or pattern of them.

    :raises ValueError: it is none.
    """
    if not re.fullmatch(r"\*/\*|[A-Za-z0-9!#$&^_.+-]+/([A-Za-z0-9!#$&^_.+-]+|\*)", text):
        raise ValueError(f"{text!r} is no media type: write one such as image/png or image/*")
    return text.lower()


def seconds(text: str) -> float:
    """Seconds from digits with perhaps a fraction: no sign, no exponent, no ``nan``.

    :raises ValueError: it is no such number.
    """
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?", text):
        raise ValueError(f"{text!r} is not a number of seconds: write digits, such as 30 or 0.5")
    return float(text)


def interval(text: str) -> float:
    """Seconds, more than none.

    :raises ValueError: it is no such number.
    """
    if not seconds(text):
        raise ValueError("it is more than 0 seconds")
    return seconds(text)


def patience(text: str) -> float:
    """Seconds, or ``forever``.

    :raises ValueError: it is neither.
    """
    return inf if text == "forever" else seconds(text)


def count(text: str) -> int:
    """A number of at least one.

    :raises ValueError: it is no such number.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError(f"{text!r} is not a number: write a whole one of at least 1")
    return int(text)


def word(text: str) -> str:
    """``text``, if there is any.

    :raises ValueError: it is empty.
    """
    if not text:
        raise ValueError("a value is missing")
    return text


def switch(text: str) -> bool:
    """Yes or no.

    :raises ValueError: it is neither.
    """
    if text.lower() not in ("1", "0", "yes", "no", "true", "false", "on", "off"):
        raise ValueError(f"{text!r} is neither on nor off")
    return text.lower() in ("1", "yes", "true", "on")


def words(*known: str) -> Callable[[str], tuple[str, ...]]:
    """A parser of some of the ``known`` words, with commas between; nothing is none of them."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(text.split(",")) if text else ()
        for each in found:
            one_of(*known)(each)
        return found

    return parse


def one_of(*known: str) -> Callable[[str], str]:
    """A parser of one of the ``known`` words."""

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text!r} is none of {', '.join(known)}")
        return text

    return parse


def member(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """A parser of one of the words of ``kind``."""
    return lambda text: kind(one_of(*kind)(text))


def pattern(text: str) -> Pattern | None:
    """An address pattern as ``beam.target`` reads it.

    :raises ValueError: it is none.
    """
    return parse_pattern(word(text))


def network(text: str) -> IPv4Network | IPv6Network | str:
    """An address, a network as ``10.0.0.0/8``, or ``unix``.

    :raises ValueError: it is none, or has bits behind its prefix.
    """
    try:
        return text if text == "unix" else ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address, no network such as 10.0.0.0/8, and not unix") from None


def origin(text: str) -> str:
    """The origin of pages as browsers write it (RFC 6454, section 6.2), or ``*`` for all.

    :raises ValueError: it is none, or would never be written so.
    """
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?", text)
    if text != "*" and (not match or match[1] + (match[3] or "") in ("http:80", "https:443")):
        raise ValueError(
            f"{text!r} is not an origin: write *, or such as https://example.org, in small letters and without a path"
        )
    return text


def origins(text: str) -> tuple[str, ...]:
    """Origins with commas between; nothing is none of them.

    :raises ValueError: one of them is no origin.
    """
    return tuple(origin(each) for each in text.split(",")) if text else ()
