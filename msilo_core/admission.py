"""Whether a request is taken up at all: what RFC 3261 asks of a user agent server (section 8.2) and of a proxy (16.3).

Pure functions of a validated request. What they refuse is answered without a transaction: a repeat is refused anew.
"""

from collections.abc import Collection
from typing import Final

import msgspec

from msilo_core.errors import PeerError
from msilo_core.fields import parse_tokens
from msilo_core.message import Request

__all__ = ["SUPPORTED", "Refusal", "inspect", "refuse_extensions"]

SUPPORTED: Final = ("path",)
"""Option tags of the extensions that we understand (RFC 3261 section 19.2): RFC 3327."""

# The methods of IANA's registry. "... if the UAS recognizes but does not support the method of a request, it MUST
# generate a 405" (section 8.2.1); 501 is for "when a UAS does not recognize the request method" (section 21.5.2).
_METHODS: Final = frozenset(
    {
        "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER",
        "REGISTER", "SUBSCRIBE", "UPDATE",
    }
)  # fmt: skip


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """An answer that ends a request before it has begun; `reason` empty for the usual phrase."""

    status: int
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def inspect(request: Request, allow: Collection[str], proxied: Collection[str]) -> Refusal | None:
    """Say why a request is refused, or None.

    Args:
        request: a validated request, neither ACK nor CANCEL, which may not be refused so.
        allow: the methods that are served.
        proxied: those of them that may go on to somebody else, who then knows what the request requires.
    """
    method, first = request.method, request.head.first
    if method not in allow:
        return Refusal(405 if method in _METHODS else 501)
    goes_on = method in proxied
    # Section 16.3 item 3. Whoever is the last to get a request does not look at it.
    if goes_on and "max-forwards" in first and not first["max-forwards"].strip(" \t0"):
        return Refusal(483)
    if "proxy-require" in first or ("require" in first and not goes_on):
        try:
            return refuse_extensions(request, *(("proxy-require",) if goes_on else ("require", "proxy-require")))
        except PeerError as error:
            return Refusal(error.status_hint)
    return None


def refuse_extensions(request: Request, *keys: str) -> Refusal | None:
    """Refuse a request whose headers of these keys require extensions that we do not understand (section 8.2.2.3).

    Raises:
        ParseError: one of them holds what is no option tag.
    """
    tags = [tag for key in keys for tag in parse_tokens(request.get_all(key))]
    unknown = [tag for tag in dict.fromkeys(tags) if tag.lower() not in SUPPORTED]
    return Refusal(420, "", (("Unsupported", ", ".join(unknown)),)) if unknown else None
