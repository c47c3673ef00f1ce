"""Who the client is, when a proxy stands between: what a proxy says is believed of those that the operator names.

``X-Forwarded-For`` and ``X-Forwarded-Proto`` are what the proxies in use write; anybody can send them, so from others
they mean nothing.  ``Forwarded`` (RFC 7239), which none of them writes unasked, is not read.  An endpoint that speaks
the PROXY protocol is no matter of this: its connections have the client's address already.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from attrs import frozen
from twisted.web.http_headers import Headers

UNIX = "unix"  # what a connection without an address is called
MOST_HOPS = 32  # entries that are looked at: a client may have written thousands
ENTRY = re.compile(r"([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?")


def address(text: str) -> IPv4Address | IPv6Address | None:
    """The address in ``text``, perhaps with a port; ``None`` if it is none.  An IPv4-mapped one is an IPv4 address."""
    match = ENTRY.fullmatch(text)
    try:
        found = ip_address(match[1] or match[2] or match[3]) if match else None
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@frozen
class Proxies:
    """The proxies that are believed.

    :param trusted: their networks, and ``"unix"`` if all that comes through a UNIX socket is.
    """

    trusted: tuple[IPv4Network | IPv6Network | str, ...] = ()

    def client(self, host: str | None, headers: Headers) -> str:
        """The address of the client, or ``unix``.

        The list is walked from its end, which the nearest proxy wrote, past those that are trusted.  What stands
        before an entry that is no address was written by nobody who is known.

        :param host: whose connection it is; ``None`` for a UNIX socket's.
        :param headers: of the request.
        """
        client = host or UNIX
        if not self._trusts(host):
            return client
        entries = ",".join(headers.getRawHeaders("x-forwarded-for", [])).rsplit(",", MOST_HOPS)
        for entry in reversed(entries[-MOST_HOPS:]):
            found = address(entry.strip())
            if found is None:
                break
            client = str(found)
            if not self._has(found):
                break
        return client

    def says_secure(self, host: str | None, headers: Headers) -> bool | None:
        """Whether the client came by TLS; ``None`` if no trusted proxy says.  The last value is the nearest one's."""
        if not self._trusts(host):
            return None
        said = ",".join(headers.getRawHeaders("x-forwarded-proto", [])).rpartition(",")[2].strip().lower()
        return {"https": True, "http": False}.get(said)

    def _trusts(self, host: str | None) -> bool:
        if not self.trusted:
            return False
        found = None if host is None else address(host.partition("%")[0])
        return UNIX in self.trusted if host is None else found is not None and self._has(found)

    def _has(self, found: IPv4Address | IPv6Address) -> bool:
        return any(not isinstance(each, str) and found in each for each in self.trusted)
