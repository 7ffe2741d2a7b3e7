"""What the generator sends: templates with numbers filled in, and answers made of the lines of a request.

A request is recognised by the number in its branch, which each answer repeats, and a message that is delivered by the
number at the beginning of its body.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from bench.wire import TransportName

__all__ = ["BODY_BYTES_MIN", "Names", "Requests", "answer", "number_in_body"]

BODY_BYTES_MIN: Final = 10
"""Of a body that has room for its number."""

_MESSAGE: Final = (
    b"MESSAGE {user} SIP/2.0\r\n"
    b"Via: {via};branch=z9hG4bK{own}%08x;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice Example" <sip:alice@{domain}>;tag=%08x\r\n'
    b"To: <{user}>\r\n"
    b"Call-ID: {own}-%08x@client.{domain}\r\n"
    b"CSeq: 1 MESSAGE\r\n"
    b"User-Agent: bench\r\n"
    b"Date: Sun, 22 Nov 2026 23:58:32 GMT\r\n"
    b"Content-Type: text/plain;charset=utf-8\r\n"
    b"Content-Length: {length}\r\n"
    b"\r\n"
)
_REGISTER: Final = (
    b"REGISTER sip:{domain} SIP/2.0\r\n"
    b"Via: {via};branch=z9hG4bK{own}%08x;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <{user}>;tag=%08x\r\n"
    b"To: <{user}>\r\n"
    b"Call-ID: {name}@client.{domain}\r\n"
    b"CSeq: %d REGISTER\r\n"
    b"Contact: <sip:{name}@{contact}>;expires=3600\r\n"
    b"Allow: MESSAGE, OPTIONS\r\n"
    b"User-Agent: bench\r\n"
    b"Content-Length: 0\r\n"
    b"\r\n"
)

_TEXT: Final = b"The quick brown fox jumps over the lazy dog. "

_COPIED: Final = frozenset((b"via", b"v", b"from", b"f", b"to", b"t", b"call-id", b"i", b"cseq"))
"""Headers that an answer repeats (RFC 3261 section 8.2.6.2)."""

_TO: Final = frozenset((b"to", b"t"))


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """Who the users of one generator are: no two runs, and no two generators, have any in common.

    Attributes:
        run: eight hexadecimal digits of this run.
        generator: which of its generators, 0 to 255.
        domain: of the users.
    """

    run: str
    generator: int
    domain: str


class Requests:
    """The requests of one generator.

    Args:
        names: its users.
        phase: which of the loads on these users, 0 to 15: no two may share a branch.
        transport: that they go by.
        sent_by: where from.
        body_bytes: length of each body; one shorter than :data:`BODY_BYTES_MIN` does not hold its number.

    Attributes:
        cookie: what stands before the number in each branch.
    """

    def __init__(self, names: Names, phase: int, *, transport: TransportName, sent_by: bytes, body_bytes: int) -> None:
        prefix = f"{names.run}{names.generator:02x}"
        own = f"{prefix}{phase:x}".encode()
        fixed = {
            b"{user}": f"sip:u{prefix}-%06d@{names.domain}".encode(),
            b"{name}": f"u{prefix}-%06d".encode(),
            b"{domain}": names.domain.encode(),
            b"{own}": own,
            b"{via}": f"SIP/2.0/{transport.upper()} ".encode() + sent_by,
            b"{contact}": sent_by + (b";transport=tcp" if transport == "tcp" else b""),
            b"{length}": str(body_bytes).encode(),
        }
        text = _TEXT * (body_bytes // len(_TEXT) + 1)
        self._is_numbered = body_bytes >= BODY_BYTES_MIN
        body = b"#%08x " + text[: body_bytes - BODY_BYTES_MIN] if self._is_numbered else text[:body_bytes]
        self.cookie: Final = b";branch=z9hG4bK" + own
        self._message: Final = _filled(_MESSAGE, fixed) + body
        self._register: Final = _filled(_REGISTER, fixed)

    def message(self, number: int, user: int) -> bytes:
        """Return a MESSAGE to a user."""
        if self._is_numbered:
            return self._message % (user, number, number, user, number, number)
        return self._message % (user, number, number, user, number)

    def register(self, number: int, user: int) -> bytes:
        """Return a REGISTER of a user for an hour; numbers ascend from one to the next of the same user."""
        return self._register % (number, number, user, user, user, number + 1, user)


def answer(request: bytes) -> bytes:
    """Return the 200 to a MESSAGE outside a dialog, none of whose lines is folded."""
    lines = [b"SIP/2.0 200 OK"]
    for line in request[: request.find(b"\r\n\r\n")].split(b"\r\n"):
        name = line[: line.find(b":")].rstrip().lower()
        if name in _COPIED:
            lines.append(line + b";tag=phone" if name in _TO and b";tag=" not in line else line)
    lines.append(b"Content-Length: 0\r\n\r\n")
    return b"\r\n".join(lines)


def number_in_body(request: bytes) -> int:
    """Return the number of a message that is delivered, whatever the server put before its body; -1: none of ours."""
    start = request.rfind(b"#") + 1
    try:
        return int(request[start : start + 8], 16) if start else -1
    except ValueError:
        return -1


def _filled(template: bytes, fixed: Mapping[bytes, bytes]) -> bytes:
    for name, value in fixed.items():
        template = template.replace(name, value)
    return template
