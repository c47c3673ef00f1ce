"""A scope: a namespace of keys with its policy, at a prefix of the paths.

The way of a request: ``Root`` finds the scope that its path belongs to, and asks that scope's policy from there on.
"""

from urllib.parse import quote

from attrs import frozen

from beam.broker import Broker
from beam.policy import Policy
from beam.web.request import StreamingRequest


@frozen(eq=False)
class Scope:
    """Where a request belongs.

    :param prefix: what stands in front of its keys: nothing, or a slash and segments.
    """

    prefix: str
    broker: Broker

    @property
    def policy(self) -> Policy:
        """Its rules."""
        return self.broker.policy

    def base(self, request: StreamingRequest) -> str:
        """The address of this scope as the client of ``request`` wrote it."""
        scheme = "https" if request.isSecure() else "http"
        host = request.requestHeaders.getRawHeaders("host", ["localhost"])[0]
        return f"{scheme}://{quote(host, safe=':[]@.-_~')}{self.prefix}"
