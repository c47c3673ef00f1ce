"""Stores, found by the string that an operator writes: ``memory:cap=1G``, ``disk:/var/lib/beam:cap=10G``.

A store is a Twisted plug-in that provides ``beam.interfaces.IStoreMaker``.  This file finds it and parses the string;
the stores themselves are beside it, and nobody above this folder imports one.
"""

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.plugin import getPlugins
from zope.interface import implementer

from beam.interfaces import IHouse, IStore, IStoreMaker
from beam.quota import Quota


@implementer(IHouse)
@frozen
class House:
    """What every store may use; see ``IHouse``."""

    reactor: IReactorTime
    memory: Quota
    disk_path: str = ""
    disk_cap: int = 10 << 30


def arguments(text: str, positional: str | None, **kinds: Callable[[str], object]) -> dict[str, object]:
    """Parse ``value:name=value:...``, the shape of Twisted's endpoint strings; ``\\:`` is a colon.

    :param positional: name of the value that may stand first without one, if any.
    :param kinds: for each name what turns its text into a value, raising ``ValueError``.
    :raises ValueError: an unknown or doubled name, or a bad value.
    """
    found: dict[str, object] = {}
    for i, part in enumerate(text.replace("\\:", "\0").split(":") if text else []):
        name, equals, value = part.replace("\0", ":").partition("=")
        if not equals and i == 0 and positional:
            name, value = positional, name
        if name not in kinds:
            raise ValueError(f"{name!r} is not one of {', '.join(kinds)}")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = kinds[name](value)
    return found


def make_store(text: str, house: IHouse) -> tuple[str, IStore]:
    """The store that ``text`` describes, and its name: ``NAME=PREFIX:...``, or what stands before the first colon.

    :raises ValueError: there is no such store, or it cannot be made so.
    """
    head, _, rest = text.partition(":")
    name, _, prefix = head.rpartition("=")
    makers = {maker.prefix: maker for maker in getPlugins(IStoreMaker)}
    if prefix not in makers:
        raise ValueError(f"there is no store {prefix!r}; installed are {', '.join(sorted(makers))}")
    try:
        return name or prefix, makers[prefix].make(rest, house)
    except ValueError as error:
        raise ValueError(f"store {prefix}: {error}") from None
