"""Where a forward goes: addresses that senders name, patterns that operators allow, and what a target's answer says.

A sender's address is taken apart once; what is matched, resolved, connected to and asked for are its parts.  What does
not belong here: a socket, a resolver, or anything that knows who sends.
"""

import re
from collections.abc import Sequence
from html import unescape
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from attrs import frozen

from beam.errors import BadRequest, Forbidden

PORTS = {"http": 80, "https": 443}
NOT_PUBLIC = [  # besides what Python knows: metadata services, translation prefixes, old site-local addresses
    ip_network(each)
    for each in ("168.63.129.16", "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10", "::ffff:0:0:0/96")
]
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
    if "@" in re.split("[/?#]", text.partition("://")[2])[0]:
        raise BadRequest("The forward address has a user name; give credentials in a header or a signature.")
    match = ADDRESS.fullmatch(text)
    if not match or not is_host(match["host"]) or re.search(r"[^!-~]|[\\<>\"^`{|}]", text):
        raise BadRequest("The forward address is no URL such as https://bucket.example/key?signature.")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    if scheme not in PORTS:
        raise BadRequest("The forward address must begin with http:// or https://.")
    port = match["port"] or str(PORTS[scheme])
    if port == "*" or not is_port(port):
        raise BadRequest("The port of the forward address is none.")
    return Target(scheme, host, int(port), (match["path"] or "/") + (match["query"] or ""))


def is_host(text: str) -> bool:
    """Whether a resolver can be asked for ``text``, or it is an address."""
    if text.startswith("["):
        return is_address(text[1:-1]) and ":" in text
    return all(0 < len(label) < 64 for label in text.split(".")) and len(text) < 254 and "*" not in text


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_port(text: str) -> bool:
    """Whether ``text`` is a port, or ``*`` for any."""
    return text == "*" or (text.isdigit() and 0 < int(text) < 65536)


def has_dots(path: str) -> bool:
    """Whether a segment of ``path`` is a dot or two, which servers may resolve to another path."""
    decoded = re.sub("%2e", ".", path.partition("?")[0], flags=re.I)
    return any(each in (".", "..") for each in re.split(r"/|\\|%2f|%5c", decoded, flags=re.I))


def wildcard(text: str, star: str) -> re.Pattern[str]:
    """A pattern in which ``*`` stands for what ``star`` matches, and everything else for itself."""
    return re.compile(star.join(re.escape(part) for part in text.split("*")))


@frozen
class Pattern:
    """One address pattern of ``--allow-forward``: scheme, host label by label, port and path are matched apart."""

    scheme: str
    labels: tuple[re.Pattern[str], ...]
    port: int | None
    path: re.Pattern[str] | None

    def matches(self, target: Target) -> bool:
        """Whether ``target`` is one of these."""
        labels = target.host.split(".")
        return (
            target.scheme == self.scheme
            and self.port in (None, target.port)
            and len(labels) == len(self.labels)
            and all(pattern.fullmatch(label) for pattern, label in zip(self.labels, labels, strict=True))
            and (self.path is None or self.path.fullmatch(target.path.partition("?")[0]) is not None)
            and (self.path is None or not has_dots(target.path))
        )


def parse_pattern(text: str) -> Pattern | None:
    """The pattern that an operator wrote; ``None`` for ``any``.

    :raises ValueError: it is none.
    """
    if text == "any":
        return None
    match = ADDRESS.fullmatch(text)
    if not match or match["query"] or match["scheme"].lower() not in PORTS or not is_port(match["port"] or "*"):
        raise ValueError(f"{text!r} is neither 'any' nor a pattern such as https://*.s3.*.amazonaws.com/*")
    scheme, port = match["scheme"].lower(), match["port"]
    return Pattern(
        scheme,
        tuple(wildcard(label, "[^.]*") for label in match["host"].lower().split(".")),
        None if port == "*" else int(port or PORTS[scheme]),
        None if match["path"] in (None, "/*") else wildcard(match["path"], ".*"),
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

    Addresses that carry an IPv4 one (mapped, NAT64, 6to4) are as public as that one; those of Teredo are never.
    """
    address = ip_address(text.partition("%")[0])
    inner: IPv4Address | None = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.packed[:12] in (b"\x00\x64\xff\x9b" + bytes(8), bytes(12)):
            inner = IPv4Address(address.packed[12:])
    if any(address in each for each in NOT_PUBLIC) or (inner is not None and not is_public(str(inner))):
        return False
    return address.is_global and not address.is_multicast


def excerpt(kind: str, body: bytes) -> str:
    """What the answer of a target that refused says: an S3 error's code and message, else its first characters.

    The rest of an S3 error shows access keys and what was signed.
    """
    text = body.decode("utf-8-sig", errors="replace")
    if "xml" in kind.lower() or text.lstrip().startswith("<?xml"):
        found = (re.search(f"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message"))
        text = unescape(": ".join(match[1] for match in found if match))
    text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return text[:LONGEST_EXCERPT]
