"""The header fields of a message: raw lines in their order, typed views on demand.

What a header says is parsed when it is asked for. Keys are header names in lower case, always the long form:
``call-id`` for a line that begins with ``i:``.
"""

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields import (
    Challenge,
    Contact,
    Credentials,
    CSeq,
    NameAddr,
    Star,
    Via,
    parse_call_id,
    parse_challenge,
    parse_contacts,
    parse_content_length,
    parse_credentials,
    parse_cseq,
    parse_delta_seconds,
    parse_max_breadth,
    parse_max_forwards,
    parse_name_addr,
    parse_via,
    split_first,
    split_list,
)
from msilo_core.head import Head
from msilo_core.limits import Limits

__all__ = ["Headers", "topmost_via"]


class Headers(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """What a message says above its body.

    A property that takes a header apart raises :class:`ParseError` where the header is malformed. `via`, `from_`, `to`,
    `call_id` and `cseq` do so where it is missing too; the others then have a value that says so.

    Attributes:
        head: start-line and header lines as received.
        limits: the bounds that the message is held to.
    """

    head: Head
    limits: Limits
    _via: Via | None = None
    _from: NameAddr | None = None
    _to: NameAddr | None = None
    _call_id: str | None = None
    _cseq: CSeq | None = None

    def get(self, key: str) -> str | None:
        """Return the value of the first line of a header, unfolded and without blanks around it, or None."""
        value = self.head.first.get(key)
        return None if value is None else value.strip(" \t")

    def get_all(self, key: str) -> list[str]:
        """Return the values of all lines of a header in their order, each as :meth:`get` does."""
        return self.head.values(key)

    @property
    def raw_lines(self) -> list[tuple[str, str]]:
        """Key and line of each header, in order; a line is as received, folds included, without its last CRLF."""
        return list(zip(self.head.keys, self.head.lines, strict=True))

    @property
    def via(self) -> Via:
        """The topmost Via."""
        value = self._via
        if value is None:
            value = self._via = topmost_via(self._mandatory("via"))
        return value

    @property
    def vias(self) -> list[str]:
        """All values of Via, topmost first, one text each."""
        return self._list("via")

    @property
    def from_(self) -> NameAddr:
        """From."""
        value = self._from
        if value is None:
            value = self._from = parse_name_addr(self._mandatory("from"))
        return value

    @property
    def to(self) -> NameAddr:
        """To."""
        value = self._to
        if value is None:
            value = self._to = parse_name_addr(self._mandatory("to"))
        return value

    @property
    def call_id(self) -> str:
        """Call-ID."""
        value = self._call_id
        if value is None:
            value = self._call_id = parse_call_id(self._mandatory("call-id"))
        return value

    @property
    def cseq(self) -> CSeq:
        """CSeq."""
        value = self._cseq
        if value is None:
            value = self._cseq = parse_cseq(self._mandatory("cseq"))
        return value

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, 0 to 255, or None."""
        value = self.head.first.get("max-forwards")
        return None if value is None else parse_max_forwards(value)

    @property
    def max_breadth(self) -> int | None:
        """Max-Breadth, 1 or more, or None (RFC 5393 section 5.3.1)."""
        value = self.head.first.get("max-breadth")
        return None if value is None else parse_max_breadth(value)

    @property
    def expires_s(self) -> int | None:
        """Expires in seconds, 0 to 2**32 - 1, or None."""
        value = self.head.first.get("expires")
        return None if value is None else parse_delta_seconds(value)

    @property
    def content_length(self) -> int | None:
        """Content-Length in octets, or None; malformed also if it stands there twice (RFC 4475 section 3.3.9)."""
        value = self.head.first.get("content-length")
        if value is None:
            return None
        if len(self.head.first) != len(self.head.keys):
            self.require_single("content-length")
        return parse_content_length(value)

    @property
    def content_type(self) -> str:
        """Content-Type as received, or empty."""
        return self.get("content-type") or ""

    @property
    def contacts(self) -> tuple[Contact, ...] | Star:
        """All values of Contact, or :data:`msilo_core.STAR`; for a URI over the limit raises :class:`ValueTooLong`."""
        return parse_contacts(self.get_all("contact"), self.limits)

    @property
    def routes(self) -> list[str]:
        """All values of Route, topmost first, one text each."""
        return self._list("route")

    @property
    def path(self) -> str:
        """All values of Path as received, comma-separated, or empty (RFC 3327)."""
        return ",".join(self.get_all("path"))

    @property
    def authorization(self) -> tuple[Credentials, ...]:
        """The lines of Authorization, one value each."""
        return self._credentials("authorization")

    @property
    def proxy_authorization(self) -> tuple[Credentials, ...]:
        """The lines of Proxy-Authorization, one value each."""
        return self._credentials("proxy-authorization")

    @property
    def www_authenticate(self) -> tuple[Challenge, ...]:
        """The lines of WWW-Authenticate, one value each, the one that the server likes best first."""
        return self._challenges("www-authenticate")

    @property
    def proxy_authenticate(self) -> tuple[Challenge, ...]:
        """The lines of Proxy-Authenticate, one value each, in their order as those of :attr:`www_authenticate`."""
        return self._challenges("proxy-authenticate")

    def require_single(self, *keys: str) -> None:
        """Make sure that headers stand there on one line each, or not at all.

        Raises:
            ParseError: one of `keys` has several.
        """
        for key in keys:
            if (count := self.head.keys.count(key)) > 1:
                raise ParseError(f"one {key} header", f"{count} of them")

    def _list(self, key: str) -> list[str]:
        return [part for value in self.get_all(key) for part in split_list(value)]

    def _credentials(self, key: str) -> tuple[Credentials, ...]:
        return tuple(parse_credentials(value) for value in self.get_all(key))

    def _challenges(self, key: str) -> tuple[Challenge, ...]:
        return tuple(parse_challenge(value) for value in self.get_all(key))

    def _mandatory(self, key: str) -> str:
        value = self.head.first.get(key)
        if value is None:
            raise ParseError(f"a {key} header")
        return value


def topmost_via(value: str) -> Via:
    """Return the first ``via-parm`` of a Via line."""
    return parse_via(split_first(value)[0] if "," in value else value)
