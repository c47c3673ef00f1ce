"""From a forward's address to the IP addresses that may be connected to, once for each send."""

from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from beam.errors import Forbidden
from beam.target import Target, is_public


@implementer(IResolutionReceiver)
class Addresses:
    """Gathers what a resolver finds; ``done`` fires with it."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing to do yet."""

    def addressResolved(self, address: IAddress) -> None:
        host: Any = address
        self._found.append(host.host)

    def resolutionComplete(self) -> None:
        self.done.callback(self._found)  # behind a timeout it goes nowhere


async def resolve(reactor: Any, target: Target, private: bool, timeout: float) -> list[str]:
    """The addresses of ``target``, each of which may be connected to; none if its name is not known in time.

    :param private: whether those that are not public may be, too.
    :raises Forbidden: one of them may not.
    """
    host = target.host.removeprefix("[").removesuffix("]")
    try:
        found = [str(ip_address(host))]
    except ValueError:
        resolver: IHostnameResolver = reactor.nameResolver
        addresses = Addresses()
        found = []
        with suppress(UnicodeError, DeferredTimeout):  # it can be no name, or nobody answers in time
            resolver.resolveHostName(addresses, host)
            found = await addresses.done.addTimeout(timeout, reactor)
    if not private and not all(is_public(each) for each in found):
        raise Forbidden(f"This server does not forward to {target.host}: its address is not a public one.")
    return found
