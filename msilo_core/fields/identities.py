"""Who somebody is, and who may know: P-Asserted-Identity, P-Preferred-Identity (RFC 3325) and Privacy (RFC 3323)."""

from collections.abc import Sequence
from typing import Final

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.addresses import any_uri, format_name_addr, read_name_addr
from msilo_core.fields.parameters import split_list
from msilo_core.grammar import is_token
from msilo_core.uri import AnyUri, SipUri

__all__ = ["Identity", "parse_identities", "parse_privacy"]


class Identity(msgspec.Struct, frozen=True, gc=False):
    """One value of P-Asserted-Identity or P-Preferred-Identity (RFC 3325 section 9).

    Attributes:
        uri: the URI taken apart.
        uri_text: the URI as received.
        display_name: without quotes and backslashes, or empty.
    """

    uri: AnyUri
    uri_text: str
    display_name: str = ""

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return format_name_addr(self.display_name, self.uri_text, "")


def parse_identities(values: Sequence[str]) -> tuple[Identity, ...]:
    """Parse all P-Asserted-Identity lines of a message, or all P-Preferred-Identity lines.

    Raises:
        ParseError: also where RFC 3325 section 9 is broken: "If there is one value, it MUST be a sip, sips, or tel URI.
            If there are two values, one value MUST be a sip or sips URI and the other MUST be a tel URI."
    """
    identities = tuple(_parse_identity(part) for value in values for part in split_list(value))
    if len(identities) > _IDENTITIES_MAX:
        raise ParseError("at most two identities", f"{len(identities)} of them")
    if len({isinstance(identity.uri, SipUri) for identity in identities}) < len(identities):
        raise ParseError("a SIP URI and a tel URI", ", ".join(identity.uri_text for identity in identities))
    return identities


def parse_privacy(text: str) -> tuple[str, ...]:
    """Return what a Privacy asks for, in lower case and each once: ``none``, ``id``, ``header``, ``critical``…"""
    values = tuple(part.strip(" \t") for part in text.split(";"))
    for value in values:
        if not is_token(value):
            raise ParseError("tokens between semicolons", text)
    return tuple(dict.fromkeys(value.lower() for value in values))


_IDENTITIES_MAX: Final = 2


def _parse_identity(text: str) -> Identity:
    found = read_name_addr(text)
    if found is None:
        # There are no parameters that a semicolon could begin, and so all of it is the URI.
        return Identity(any_uri(text), text)
    display_name, uri_text, end = found
    if end < len(text):
        raise ParseError("nothing behind the brackets", text)
    return Identity(any_uri(uri_text), uri_text, display_name)
