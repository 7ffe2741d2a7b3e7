"""SIP as the peers of the simulated world read and write it: the few words they need, and none of the product's code.

What the product's own parser gets wrong would not show if they used it too.
"""

import re
from typing import Final, TypeAlias

import msgspec

__all__ = ["Address", "Key", "Wire", "parse", "response", "via"]

Address: TypeAlias = tuple[str, int]
"""Host and port."""

Key: TypeAlias = tuple[str, int, str]
"""Call-ID, CSeq number and From tag: a message's identity (RFC 3261 section 8.2.2.2)."""

_LONG_FORMS: Final = {
    "v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "c": "content-type",
    "e": "content-encoding", "s": "subject", "k": "supported",
}  # fmt: skip
_TAG: Final = re.compile(r";\s*tag=([^;\s]+)")
_BRANCH: Final = re.compile(r";\s*branch=([^;,\s]+)")


class Wire(msgspec.Struct, frozen=True, gc=False):
    """A message.

    Attributes:
        start: the start-line.
        lines: keys, in lower case and the long form, and values, folds included, in their order.
        body: octets.
        key: what tells it from other messages.
        branch: of the topmost Via.
    """

    start: str
    lines: list[tuple[str, str]]
    body: bytes
    key: Key
    branch: str

    @property
    def status(self) -> int:
        """Status of a response; 0 for a request."""
        return int(self.start[8:11]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """Method of a request, or that which a response names."""
        return self.start.partition(" ")[0] if not self.status else (self.get("cseq") or "").partition(" ")[2]

    @property
    def request_uri(self) -> str:
        """Request-URI of a request."""
        return self.start.split(" ")[1]

    @property
    def user(self) -> str:
        """User part of the Request-URI."""
        return self.request_uri.partition(":")[2].partition("@")[0]

    @property
    def from_below(self) -> str:
        """Branch of the Via below the topmost: of who sent it to whom it comes from; empty if there is none."""
        vias = self.all("via")
        return _first(_BRANCH, vias[1]) if len(vias) > 1 else ""

    def get(self, key: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((value for name, value in self.lines if name == key), None)

    def all(self, key: str) -> list[str]:
        """Return all values of a header."""
        return [value for name, value in self.lines if name == key]


def parse(data: bytes) -> Wire:
    """Read a message; whoever wrote it writes one Via in a line."""
    head, _, body = data.partition(b"\r\n\r\n")
    start, *rest = head.decode("utf-8", "surrogateescape").split("\r\n")
    lines: list[tuple[str, str]] = []
    for line in rest:
        if line[:1] in (" ", "\t"):
            key, value = lines.pop()
            lines.append((key, f"{value}\r\n{line}"))
            continue
        name, _, value = line.partition(":")
        key = name.strip().lower()
        lines.append((_LONG_FORMS.get(key, key), value.strip()))
    first = dict(reversed(lines))
    number = int(first["cseq"].partition(" ")[0])
    key_of_message = (first["call-id"], number, _first(_TAG, first["from"]))
    return Wire(start, lines, body, key_of_message, _first(_BRANCH, first["via"]))


def response(request: Wire, status: int, tag: str, retry_after_s: int = 0) -> bytes:
    """Return a response to a request (RFC 3261 section 8.2.6), with a Retry-After if it is not 0."""
    lines = [f"SIP/2.0 {status} {'OK' if status < 300 else 'No'}"]
    for key, value in request.lines:
        if key in ("via", "from", "call-id", "cseq"):
            lines.append(f"{key}: {value}")
        elif key == "to":
            lines.append(f"to: {value}" if status < 200 or ";tag=" in value else f"to: {value};tag={tag}")
    if retry_after_s:
        lines.append(f"retry-after: {retry_after_s}")
    head = "\r\n".join([*lines, "content-length: 0"])
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n"


def via(transport: str, address: Address, branch: str) -> str:
    """Return a Via line."""
    return f"Via: SIP/2.0/{transport.upper()} {address[0]}:{address[1]};branch={branch};rport"


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
