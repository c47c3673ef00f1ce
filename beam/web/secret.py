"""Whether a sender may send: the one secret of the server."""

from hmac import compare_digest

from beam.errors import Unauthorized
from beam.policy import Policy
from beam.web.request import StreamingRequest


def bearer(request: StreamingRequest) -> str | None:
    """The token that ``request`` shows, if it does (RFC 6750, section 2.1)."""
    scheme, _, token = (request.field("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def check_secret(policy: Policy, shown: str | None) -> None:
    """Whether who shows ``shown`` may send.

    :raises Unauthorized: it may not.
    """
    if policy.auth is not None and not compare_digest((shown or "").encode(), policy.auth.encode()):
        raise Unauthorized("A sender has to show the secret of this server, as a bearer token.")
