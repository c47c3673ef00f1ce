"""What the operator and the sender may choose: the knobs, their caps, and how values are written.

A ``Policy`` is one frozen value; code asks the knob, never a name.  ``SendOptions`` are the query options of one send,
checked against it.  Values that cannot be are refused with a sentence, never bent.
"""

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from beam.errors import BadRequest
from beam.target import Pattern

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
FORWARDS = {"spool", "best-effort"}
DIGESTS = {"sha-256": "sha256", "sha-512": "sha512"}  # RFC 9530, section 5: name on the wire -> hashlib's


@frozen
class Policy:
    """Times in seconds, sizes in bytes, rates in bytes per second.  The names are those of the flags."""

    max_pipe_size: int | None = None
    put_ttl: float = 30
    get_ttl: float = 5
    max_ttl: float = 86400
    get_wait: float = 5
    put_wait: float = 3600
    max_wait: float = 3600
    resume_timeout: float = 30
    idle_timeout: float = 300
    min_rate: int = 1024
    max_waiting: int = 50000
    max_waiting_per_key: int = 1000
    list_keys: bool = False
    allow_forward: tuple[Pattern | None, ...] = ()
    allow_forward_private: bool = False
    forward_timeout: float = 60

    def shown(self, key: str) -> str:
        """``key`` as pages and the log may show it."""
        if self.list_keys:
            return key
        return key[: min(3, len(key) // 4)] + "..."


@frozen
class SendOptions:
    """The query options of one send.

    :param readers: receivers that must be there before the start, if it was said; holding stores only.
    :param wait: seconds for the first receiver; holding stores only.
    :param downloads: complete downloads after which the key is free; keeping stores only.
    :param ttl: seconds to keep, in place of both of the operator's; keeping stores only.
    :param name: file name for the receivers.
    :param digest: algorithm to compute while the bytes pass, as RFC 9530 names it.
    :param forward: how to forward: ``spool``, ``best-effort``, or both.
    """

    store: str = ""
    readers: int | None = None
    downloads: int | None = None
    ttl: float | None = None
    wait: float = 3600
    name: str | None = None
    digest: str | None = None
    forward: frozenset[str] = frozenset()

    @property
    def needed(self) -> int:
        """Receivers that must be there before the start."""
        return self.readers or 1


def size(text: str) -> int:
    """Bytes from ``500``, ``64K``, ``1G`` (powers of 1024).

    :raises ValueError: it is no size.
    """
    match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)", text)
    if not match:
        raise ValueError(f"{text!r} is not a size: write digits and perhaps K, M, G or T, such as 500M")
    return int(match[1]) * UNITS[match[2]]


def seconds(text: str) -> float:
    """Seconds from digits with perhaps a fraction: no sign, no exponent, no ``nan``.

    :raises ValueError: it is no such number.
    """
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError(f"{text!r} is not a number of seconds: write digits, such as 30 or 0.5")
    return float(text)


def count(text: str) -> int:
    """A number of at least one.

    :raises ValueError: it is no such number.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError(f"{text!r} is not a number: write a whole one of at least 1")
    return int(text)


def one(query: Mapping[str, Sequence[str]], name: str) -> str | None:
    """The value of an option that may be given once.

    :raises BadRequest: it is given twice.
    """
    values = query.get(name, ())
    if len(values) > 1:
        raise BadRequest(f"The option {name} is given twice; give it once.")
    return values[0] if values else None


def capped_seconds(query: Mapping[str, Sequence[str]], name: str, default: float, cap: float) -> float:
    """Option ``name`` in seconds.

    :raises BadRequest: it is no number, or above ``cap``.
    """
    text = one(query, name)
    if text is None:
        return default
    try:
        value = seconds(text)
    except ValueError as error:
        raise BadRequest(f"The option {name}: {error}.") from None
    if value > cap:
        raise BadRequest(f"The option {name} is at most {cap:g} seconds on this server.")
    return value


def counted(query: Mapping[str, Sequence[str]], name: str) -> int | None:
    """Option ``name`` as a number of at least one, if given.

    :raises BadRequest: it is no such number.
    """
    text = one(query, name)
    try:
        return None if text is None else count(text)
    except ValueError as error:
        raise BadRequest(f"The option {name}: {error}.") from None


def send_options(query: Mapping[str, Sequence[str]], policy: Policy, stores: Mapping[str, bool]) -> SendOptions:
    """The options of a send.

    :param query: option names and values, percent-decoded.
    :param stores: for each configured store whether it keeps; the first is the default.
    :raises BadRequest: an option that is unknown, malformed, above its cap, or not for this kind of store.
    """
    known = ("store", "readers", "downloads", "ttl", "wait", "name", "digest", "forward")
    for unknown in query.keys() - set(known):
        raise BadRequest(f"There is no option {unknown[:40]!r}; the options are {', '.join(known)}.")
    store = one(query, "store")
    if store is None:
        store = next(iter(stores))
    elif store not in stores:
        raise BadRequest(f"There is no store {store[:40]!r} here; this server has {', '.join(stores)}.")
    forward = frozenset((one(query, "forward") or "").split(",")) if "forward" in query else frozenset[str]()
    if forward - FORWARDS:
        raise BadRequest(f"The option forward is one of {', '.join(sorted(FORWARDS))}, or both with a comma.")
    if "spool" in forward and not stores[store]:
        keeping = [name for name, keeps in stores.items() if keeps]
        if not keeping:
            raise BadRequest("The option forward=spool needs a disk store, which this server does not have.")
        store = keeping[0]
    keeps = stores[store]
    for name in ("readers", "wait") if keeps else ("downloads", "ttl"):
        if name in query:
            kind = "keeps its files" if keeps else "holds nothing after the delivery"
            raise BadRequest(f"The option {name} does not fit the store {store}, which {kind}.")
    digest = one(query, "digest")
    if digest is not None and digest not in DIGESTS:
        raise BadRequest(f"The option digest is one of {', '.join(DIGESTS)}.")
    name_option = one(query, "name")
    if name_option == "":
        raise BadRequest("The option name is empty; give a file name.")
    ttl = capped_seconds(query, "ttl", -1, policy.max_ttl)
    return SendOptions(
        store=store,
        readers=counted(query, "readers"),
        downloads=counted(query, "downloads"),
        ttl=None if ttl < 0 else ttl,
        wait=capped_seconds(query, "wait", policy.put_wait, policy.max_wait),
        name=name_option,
        digest=digest,
        forward=forward,
    )
