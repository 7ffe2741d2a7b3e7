"""Headers that say by which hops a request goes: Route, Record-Route, Path, Service-Route."""

from collections.abc import Sequence

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.addresses import format_name_addr, read_name_addr, sip_uri
from msilo_core.fields.parameters import WithParams, checked_params, split_list
from msilo_core.uri import SipUri

__all__ = ["Hop", "parse_hops"]


class Hop(WithParams, msgspec.Struct, frozen=True, gc=False):
    """One value of Route, Record-Route (RFC 3261 section 20.34), Path (RFC 3327) or Service-Route (RFC 3608).

    Attributes:
        uri: the URI taken apart.
        uri_text: the URI as received.
        params: from the first ``;`` behind the brackets on as received, or empty.
        display_name: without quotes and backslashes, or empty.
    """

    uri: SipUri
    uri_text: str
    params: str = ""
    display_name: str = ""

    @property
    def is_loose(self) -> bool:
        """Whether the hop leaves the Request-URI alone: its URI has ``lr``, with a value or not (section 19.1.1).

        A hop without it is a strict router of RFC 2543 and takes the Request-URI for its own (section 16.12).
        """
        return self.uri.param("lr") is not None

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return format_name_addr(self.display_name, self.uri_text, self.params)


def parse_hops(values: Sequence[str]) -> tuple[Hop, ...]:
    """Parse all Route lines of a message, or all those of one of the other headers, topmost first.

    Raises:
        ParseError: also for a URI without brackets, for its parameters would be those of the header; and for a URI of
            another scheme than SIP and SIPS: nothing can be sent there.
    """
    return tuple(_parse_hop(part) for value in values for part in split_list(value))


def _parse_hop(text: str) -> Hop:
    found = read_name_addr(text)
    if found is None:
        raise ParseError("a URI in <>", text)
    display_name, uri_text, end = found
    return Hop(sip_uri(uri_text), uri_text, checked_params(text, end), display_name)
