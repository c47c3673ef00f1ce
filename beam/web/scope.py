"""A scope: a namespace of keys with its policy, at a prefix of the paths.

The way of a request: ``Root`` finds the scope that its path belongs to, and asks that scope's policy from there on.
"""

from collections.abc import Mapping
from urllib.parse import quote

from attrs import field, frozen

from beam.broker import Broker
from beam.options import SendOptions, send_options
from beam.policy import Policy
from beam.web.request import StreamingRequest


@frozen(eq=False)
class Scope:
    """Where a request belongs.

    :param prefix: what stands in front of its keys: nothing, or a slash and segments.
    :param files: the scope of the files API beside it, where that is served.
    :ivar stores: for each store by name whether it keeps; the first is the default.
    :ivar options: those of a send that names none.
    """

    prefix: str
    broker: Broker
    files: "Scope | None" = None
    stores: Mapping[str, bool] = field(init=False)
    options: SendOptions = field(init=False)

    @stores.default
    def _stores(self) -> dict[str, bool]:
        return {name: store.keeps for name, store in self.broker.stores.items()}

    @options.default
    def _options(self) -> SendOptions:
        return send_options({}, self.policy, self.stores)

    @property
    def policy(self) -> Policy:
        """Its rules."""
        return self.broker.policy

    def base(self, request: StreamingRequest) -> str:
        """The address of this scope as the client of ``request`` wrote it."""
        scheme = "https" if request.isSecure() else "http"
        host = request.requestHeaders.getRawHeaders("host", ["localhost"])[0]
        return f"{scheme}://{quote(host, safe=':[]@.-_~')}{self.prefix}"
