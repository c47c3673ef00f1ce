"""Where a forward goes: addresses that senders name, patterns that operators allow, and what a target's answer says.

A sender's address is taken apart once; what is matched, resolved, connected to and asked for are its parts.  What does
not belong here: a socket, a resolver, or anything that knows who sends.
"""

import re
from collections.abc import Sequence
from html import unescape
from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import frozen

from beam.errors import BadRequest, Forbidden

PORTS = {"http": 80, "https": 443}
METADATA = {"168.63.129.16"}  # of a cloud, at an address that looks public
LONGEST = 4096  # characters of an address
LONGEST_EXCERPT = 200  # characters of a target's answer that the sender reads
ADDRESS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.*-]+)"
    r"(?::(?P<port>[0-9]{1,5}|\*))?"
    r"(?P<path>/[^?#]*)?"
    r"(?P<query>\?[^#]*)?",
    re.IGNORECASE,
)
HOP_BY_HOP = {"connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
NEVER_FORWARDED = {"host", "content-length", "proxy-authorization", *HOP_BY_HOP}  # not about the object


@frozen
class Target:
    """An address to PUT to.  ``path`` has the query, as it was written; ``host`` is all that is ever shown."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them (RFC 9110, 7.2)."""
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address.  It may hold a signature: never show it."""
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse_target(text: str) -> Target:
    """The parts of ``text``.

    :raises BadRequest: it is no address that a file can be forwarded to; the sentence does not repeat it.
    """
    if len(text) > LONGEST:
        raise BadRequest(f"The forward address is longer than {LONGEST} characters.")
    if "@" in text.split("://")[-1].split("/")[0]:
        raise BadRequest("The forward address has a user name; give credentials in a header or a signature.")
    match = ADDRESS.fullmatch(text)
    if not match or "*" in match["host"] or re.search(r"[^!-~]|[\\<>\"^`{|}]", text):
        raise BadRequest("The forward address is no URL such as https://bucket.example/key?signature.")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    if scheme not in PORTS:
        raise BadRequest("The forward address must begin with http:// or https://.")
    port = match["port"] or str(PORTS[scheme])
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise BadRequest("The port of the forward address is none.")
    if any(segment in (".", "..") for segment in re.sub("%2e", ".", match["path"] or "/", flags=re.I).split("/")):
        raise BadRequest("The path of the forward address has a segment that is a dot or two.")
    return Target(scheme, host, int(port), (match["path"] or "/") + (match["query"] or ""))


def wildcard(text: str, star: str) -> re.Pattern[str]:
    """A pattern in which ``*`` stands for what ``star`` matches, and everything else for itself."""
    return re.compile(star.join(re.escape(part) for part in text.split("*")))


@frozen
class Pattern:
    """One address pattern of ``--allow-forward``: scheme, host label by label, port and path are matched apart."""

    scheme: str
    labels: tuple[re.Pattern[str], ...]
    port: int | None
    path: re.Pattern[str]

    def matches(self, target: Target) -> bool:
        """Whether ``target`` is one of these."""
        labels = target.host.split(".")
        return (
            target.scheme == self.scheme
            and self.port in (None, target.port)
            and len(labels) == len(self.labels)
            and all(pattern.fullmatch(label) for pattern, label in zip(self.labels, labels, strict=True))
            and self.path.fullmatch(target.path.partition("?")[0]) is not None
        )


def parse_pattern(text: str) -> Pattern | None:
    """The pattern that an operator wrote; ``None`` for ``any``.

    :raises ValueError: it is none.
    """
    if text == "any":
        return None
    match = ADDRESS.fullmatch(text)
    if not match or match["query"] or match["scheme"].lower() not in PORTS:
        raise ValueError(f"{text!r} is neither 'any' nor a pattern such as https://*.s3.*.amazonaws.com/*")
    scheme, port = match["scheme"].lower(), match["port"]
    return Pattern(
        scheme,
        tuple(wildcard(label, "[^.]*") for label in match["host"].lower().split(".")),
        None if port == "*" else int(port or PORTS[scheme]),
        wildcard(match["path"] or "/*", ".*"),
    )


def check_allowed(target: Target, patterns: Sequence[Pattern | None]) -> None:
    """May a sender forward to ``target``?

    :raises Forbidden: not on this server.
    """
    if not patterns:
        raise Forbidden("This server does not forward; its operator can allow it with --allow-forward.")
    if not any(pattern is None or pattern.matches(target) for pattern in patterns):
        raise Forbidden(f"This server does not forward to this address at {target.host}; its operator allows others.")


def is_public(text: str) -> bool:
    """Whether the IP address is one that the whole internet may reach: none of this host, its networks or its cloud.

    Addresses that carry an IPv4 one (mapped, NAT64, 6to4, Teredo) are as public as that one.
    """
    address = ip_address(text.partition("%")[0])
    inner: IPv4Address | None = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address.packed[:12] in (b"\x00\x64\xff\x9b" + bytes(8), bytes(12)):
            inner = IPv4Address(address.packed[12:])
    if str(address) in METADATA or (inner is not None and not is_public(str(inner))):
        return False
    return address.is_global and not address.is_multicast


def excerpt(kind: str, body: bytes) -> str:
    """What the answer of a target that refused says: an S3 error's code and message, else its first characters.

    The rest of an S3 error shows access keys and what was signed.
    """
    text = body.decode(errors="replace")
    if "xml" in kind or text.lstrip().startswith("<?xml"):
        found = (re.search(f"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message"))
        text = unescape(": ".join(match[1] for match in found if match))
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text[:LONGEST_EXCERPT]
