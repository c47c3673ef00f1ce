"""What the operator may choose: the knobs.

A ``Policy`` is one frozen value; code asks the knob, never a name.  ``beam.profiles`` has the ready-made ones.
"""

from enum import StrEnum

from attrs import field, frozen

from beam.target import Pattern
from beam.values import (
    count,
    interval,
    media_types,
    member,
    origins,
    patience,
    rate,
    seconds,
    size,
    switch,
    word,
    words,
)

OPTIONS = ("store", "readers", "downloads", "ttl", "wait", "name", "digest", "forward", "resume", "download")
MORE_OPTIONS = ("n", "status", "stream")  # that some profiles have


class Reply(StrEnum):
    """When a sender whose file is held hears how it went."""

    END = "end"  # when the outcome is known
    BUFFERED = "buffered"  # when its last byte is in the store
    EARLY = "early"  # at once, and then a line for each thing that happens


class Rival(StrEnum):
    """What becomes of a sender whose key another one has."""

    REFUSED = "refused"
    REPLACES = "replaces"  # the other one, as long as that has no receiver


class Naming(StrEnum):
    """The ``Content-Disposition`` of a download."""

    ATTACHMENT = "attachment"  # made by us, always with a file name
    GIVEN = "given"  # made by us, if the sender gave a file name
    VERBATIM = "verbatim"  # the sender's own, byte for byte


class Keys(StrEnum):
    """Which paths are keys."""

    STRICT = "strict"  # no empty segment, none that is a dot or two, at most 512 bytes
    TRIMMED = "trimmed"  # without the slashes in front, at most 512 bytes
    ANY = "any"


SIZE = {"parse": size}
RATE = {"parse": rate}
TYPES = {"parse": media_types}
SECONDS = {"parse": seconds}
PATIENCE = {"parse": patience}
COUNT = {"parse": count}
SWITCH = {"parse": switch}
WORD = {"parse": word}


@frozen
class Policy:
    """What the operator may choose.  Times in seconds, sizes in bytes, rates in bytes per second.

    Each field is a knob; its name with dashes is that of the knob, and ``parse`` of its metadata reads a value.
    """

    # Limits and times.
    max_pipe_size: int | None = field(default=None, metadata=SIZE)
    put_ttl: float = field(default=30, metadata=SECONDS)
    get_ttl: float = field(default=5, metadata=SECONDS)
    max_ttl: float = field(default=86400, metadata=SECONDS)
    get_wait: float = field(default=5, metadata=PATIENCE)
    put_wait: float = field(default=3600, metadata=PATIENCE)
    max_wait: float = field(default=3600, metadata=SECONDS)
    resume_timeout: float = field(default=30, metadata=SECONDS)
    sender_resume: float = field(default=60, metadata=SECONDS)  # for a sender to come back where its file is held
    upload_ttl: float = field(default=86400, metadata=SECONDS)  # the same where it is kept
    idle_timeout: float = field(default=300, metadata=PATIENCE)
    min_rate: int = field(default=1024, metadata=SIZE)
    max_waiting: int = field(default=50000, metadata=COUNT)
    max_waiting_per_key: int = field(default=1000, metadata=COUNT)
    forward_timeout: float = field(default=60, metadata=SECONDS)
    allow_forward: tuple[Pattern | None, ...] = ()
    allow_forward_private: bool = field(default=False, metadata=SWITCH)
    list_keys: bool = field(default=False, metadata=SWITCH)
    bandwidth: int | None = field(default=None, metadata=RATE)  # of each connection
    bandwidth_per_address: int | None = field(default=None, metadata=RATE)  # of all its connections together
    allow_types: tuple[str, ...] = field(default=(), metadata=TYPES)  # all, if none is given
    deny_types: tuple[str, ...] = field(default=(), metadata=TYPES)  # also of those that are allowed
    auth: str | None = field(default=None, metadata=WORD, repr=False)  # what a sender must show

    # Who meets whom.
    lasts: bool = field(default=False, metadata=SWITCH)  # files that are kept outlive the server
    keeps: bool = field(default=False, metadata=SWITCH)  # files go to a store that keeps them, if nothing else is said
    exact: bool = field(default=False, metadata=SWITCH)  # as many receivers as asked for (one), and none after them
    rival: Rival = field(default=Rival.REFUSED, metadata={"parse": member(Rival)})
    claims: bool = field(default=False, metadata=SWITCH)  # the first GET takes the file to an address of its own
    reply: Reply = field(default=Reply.END, metadata={"parse": member(Reply)})
    early_after: float = field(default=0, metadata=PATIENCE)  # for which an early reply lets the body come first
    heartbeat: float = field(
        default=25, metadata={"parse": interval}
    )  # between two lines of an early reply, until it begins

    # What is asked for.
    options: tuple[str, ...] = field(default=OPTIONS, metadata={"parse": words(*OPTIONS, *MORE_OPTIONS)})
    strict: bool = field(default=True, metadata=SWITCH)  # an unknown option of a send is refused, else ignored
    keys: Keys = field(default=Keys.STRICT, metadata={"parse": member(Keys)})
    methods: tuple[str, ...] = field(
        default=("GET", "HEAD", "POST", "PUT", "OPTIONS"),
        metadata={"parse": words("GET", "HEAD", "POST", "PUT", "OPTIONS")},
    )
    parts: bool = field(default=True, metadata=SWITCH)  # Range and Content-Range are understood
    any_part: bool = field(default=False, metadata=SWITCH)  # the first part of a form is the file, whatever it is
    form_fields: bool = field(default=False, metadata=SWITCH)  # authentication and file-size may stand before it

    # What is answered.
    naming: Naming = field(default=Naming.ATTACHMENT, metadata={"parse": member(Naming)})
    default_type: str | None = field(default="application/octet-stream", metadata={"parse": lambda text: text or None})
    html_as_text: bool = field(default=False, metadata=SWITCH)
    landing: bool = field(default=True, metadata=SWITCH)  # browsers and previewers get a page, and take nothing
    cors: tuple[str, ...] = field(default=(), metadata={"parse": origins})  # whose pages may send and receive
    words: str = field(default="beam", metadata=WORD)  # the table of texts
    pages: str = field(default="beam", metadata=WORD)  # the table of the server's own paths
    plain_metrics: bool = field(default=False, metadata=SWITCH)  # six of the metrics also without the prefix

    def shown(self, key: str) -> str:
        """``key`` as pages and the log may show it."""
        if self.list_keys:
            return key
        return key[: min(3, len(key) // 4)] + "..."
