"""Who a message says it comes from, beside From: P-Asserted-Identity and Privacy (RFC 3325, RFC 3323).

A trusted peer is believed, and what anybody else asserted is taken out (RFC 3325 section 5), as is what a phone would
like to be called (section 6). What was believed goes on to trusted peers, and to others unless the sender asked for
privacy (section 7).
"""

import re
from collections.abc import Sequence
from typing import Final

from msilo_core.errors import PeerError
from msilo_core.headers import Headers
from msilo_core.uri import Aor, SipUri

__all__ = ["asserted_identity", "hidden_headers", "without_hidden"]


def asserted_identity(message: Headers) -> Aor | None:
    """Return the address of record that P-Asserted-Identity names; None if it names none, or cannot be read.

    Only of a message from a trusted peer does that say anything: "it can use the information in the P-Asserted-Identity
    header field, if any, as if it had authenticated the user itself" (RFC 3325 section 5).
    """
    try:
        uris = [identity.uri for identity in message.p_asserted_identity]
        return next((uri.aor() for uri in uris if isinstance(uri, SipUri)), None)
    except PeerError:
        return None


def hidden_headers(message: Headers, is_believed: bool, is_trusted_target: bool) -> tuple[str, ...]:
    """Return the keys of the headers that may not go on.

    Args:
        message: as received.
        is_believed: whether it came from a trusted peer.
        is_trusted_target: whether it goes to one.
    """
    if not is_believed:
        return (_ASSERTED, _PREFERRED)
    if is_trusted_target or _ASSERTED not in message.head.first:
        return ()
    return (_ASSERTED,) if _wants_id_hidden(message.get_all("privacy")) else ()


def without_hidden(lines: str) -> str:
    """Return header lines, each ending in CRLF, as somebody who is not trusted may see them."""
    if _ASSERTED not in lines.lower():
        return lines
    parts = _LINE.findall(lines)
    named = [(part.partition(":")[0].strip(" \t").lower(), part) for part in parts]
    privacy = [part.partition(":")[2] for name, part in named if name == "privacy"]
    if not _wants_id_hidden(privacy):
        return lines
    return "".join([part for name, part in named if name != _ASSERTED])


_ASSERTED: Final = "p-asserted-identity"
_PREFERRED: Final = "p-preferred-identity"

# A line with its folds.
_LINE: Final = re.compile(r"[^\r]*+\r\n(?>(?:[ \t][^\r]*+\r\n)*)")

# Privacy-hdr  =  "Privacy" HCOLON priv-value *(";" priv-value)
_PRIV_VALUES: Final = re.compile(r"[^\s;,]++")


def _wants_id_hidden(values: Sequence[str]) -> bool:
    return any(value.lower() == "id" for text in values for value in _PRIV_VALUES.findall(text))
