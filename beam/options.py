"""What a sender or receiver may choose: the query options, checked against the operator's policy.

Values that cannot be are refused with a sentence, never bent.
"""

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from beam.digests import DIGESTS
from beam.errors import BadRequest
from beam.policy import Policy
from beam.values import count, seconds

FORWARDS = {"spool", "best-effort"}
SEND_OPTIONS = ("store", "readers", "n", "downloads", "ttl", "wait", "name", "digest", "forward", "resume")


@frozen
class SendOptions:
    """The query options of one send.

    :param readers: receivers that must be there before the start, if it was said; holding stores only.
    :param exact: whether no others may come after those; holding stores only.
    :param wait: seconds for the first receiver; holding stores only.
    :param downloads: complete downloads after which the key is free; keeping stores only.
    :param ttl: seconds to keep, in place of both of the operator's; keeping stores only.
    :param name: file name for the receivers.
    :param digest: algorithm to compute while the bytes pass, as RFC 9530 names it.
    :param forward: how to forward: ``spool``, ``best-effort``, or both.
    :param resume: seconds for which the sender may be away; ``None`` if it does not come back.
    """

    store: str = ""
    readers: int | None = None
    exact: bool = False
    downloads: int | None = None
    ttl: float | None = None
    wait: float = 3600
    name: str | None = None
    digest: str | None = None
    forward: frozenset[str] = frozenset()
    resume: float | None = None

    @property
    def needed(self) -> int:
        """Receivers that must be there before the start."""
        return self.readers or 1


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


def company(query: Mapping[str, Sequence[str]], policy: Policy, invalid: str) -> int | None:
    """How many receivers ``n`` says there are to be; ``None`` where it is no option.

    It is read as the Piping Server reads it: the digits that stand first count, of several values the first does.

    :param invalid: the sentence if there are none.
    :raises BadRequest: it is no number, or less than one.
    """
    if "n" not in policy.options:
        return None
    match = re.match(r"\s*([+-]?[0-9]{1,9})", query.get("n", ["1"])[0])
    if not match:
        raise BadRequest(invalid)
    if int(match[1]) < 1:
        raise BadRequest(f"n should > 0, but n = {int(match[1])}.")
    return int(match[1])


def send_options(query: Mapping[str, Sequence[str]], policy: Policy, stores: Mapping[str, bool]) -> SendOptions:
    """The options of a send.

    :param query: option names and values, percent-decoded.
    :param stores: for each configured store whether it keeps; the first is the default.
    :raises BadRequest: an option that is unknown, malformed, above its cap, or not for this kind of store.
    """
    known = [name for name in SEND_OPTIONS if name in policy.options]
    for unknown in query.keys() - set(known):
        if policy.strict:
            raise BadRequest(f"There is no option {unknown[:40]!r}; the options are {', '.join(known)}.")
    query = {name: query[name] for name in known if name in query}
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
        readers=company(query, policy, 'Invalid "n" query parameter') or counted(query, "readers"),
        exact=policy.exact and not keeps,
        downloads=counted(query, "downloads"),
        ttl=None if ttl < 0 else ttl,
        wait=capped_seconds(query, "wait", policy.put_wait, policy.max_wait),
        name=name_option,
        digest=digest,
        forward=forward,
        resume=absence(query, policy, keeps) if "resume" in query else None,
    )


def absence(query: Mapping[str, Sequence[str]], policy: Policy, keeps: bool) -> float:
    """For how many seconds the sender may be away.

    :raises BadRequest: it asks for more than it may, or for no time.
    """
    cap = policy.upload_ttl if keeps else policy.sender_resume
    if one(query, "resume") == "":
        return cap
    value = capped_seconds(query, "resume", cap, cap)
    if not value:
        raise BadRequest("The option resume is more than 0 seconds; leave it out if you do not come back.")
    return value
