"""The store that hands on: memory's ring, and every body goes on to an address of the operator's.

It moves no byte itself: the forward is one more reader of the ring, which ``beam.web.forward`` drains.
"""

from urllib.parse import quote

from twisted.plugin import IPlugin
from zope.interface import implementer

from beam.errors import BadRequest
from beam.interfaces import IForwardingStore, IHouse, IStoreMaker
from beam.quota import Quota
from beam.store.memory import HISTORY, WINDOW, MemoryStore
from beam.target import parse_target

KEY = "{key}"


@implementer(IForwardingStore)
class ForwardStore(MemoryStore):
    """Rings whose bodies go on.

    :param address: where to, with ``{key}`` in its path or query.
    """

    def __init__(self, memory: Quota, address: str) -> None:
        super().__init__(memory, WINDOW, HISTORY)
        self._path, mark, self._query = address.partition("?")
        self._query = mark + self._query

    def url(self, key: str) -> str:
        return self._path.replace(KEY, quote(key, safe="/")) + self._query.replace(KEY, quote(key, safe=""))


@implementer(IPlugin, IStoreMaker)
class ForwardStoreMaker:
    """``forward:https://bucket.example/{key}``: all behind the first colon is the address."""

    prefix = "forward"

    def make(self, text: str, house: IHouse) -> ForwardStore:
        store = ForwardStore(house.memory, text)
        try:
            one, other = parse_target(store.url("a")), parse_target(store.url("b"))
        except BadRequest as error:
            raise ValueError(error.sentence.rstrip(".")) from None
        if one.path == other.path or one.netloc != other.netloc:
            raise ValueError("the address needs {key} in its path, such as forward:https://bucket.example/{key}")
        return store
