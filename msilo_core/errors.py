"""What can go wrong, by whose fault it is.

::

    SipError                       never raised itself
    ├─ PeerError                   the other side's fault; ``status_hint`` is the answer to give
    │  ├─ ParseError               where (offset) and what was expected
    │  ├─ LimitError               a bound of :class:`msilo_core.Limits` was passed
    │  │  ├─ MessageTooLong        513
    │  │  ├─ HeadTooLong           513
    │  │  ├─ LineTooLong           400
    │  │  ├─ TooManyHeaders        400
    │  │  ├─ BodyTooLong           413
    │  │  ├─ UriTooLong            414
    │  │  └─ ValueTooLong          400
    │  └─ Unsupported              a method, scheme or extension that is not ours: 405, 416, 420
    ├─ LocalError                  our caller's fault: a bug to mend, never to catch
    └─ StorageError                raised by stores, and Unavailable by Engine.dump
       ├─ Unavailable              nothing was stored, or nobody knows; ask again later
       ├─ Conflict                 another node holds what was asked for
       ├─ Full                     no room
       └─ SchemaError              the database is not what it should be; an operator must look

A :class:`PeerError` never leaves the engine: it becomes an answer, a closed flow or a counter.
"""

from typing import ClassVar, Self

__all__ = [
    "BodyTooLong",
    "Conflict",
    "Full",
    "HeadTooLong",
    "LimitError",
    "LineTooLong",
    "LocalError",
    "MessageTooLong",
    "ParseError",
    "PeerError",
    "SchemaError",
    "SipError",
    "StorageError",
    "TooManyHeaders",
    "Unavailable",
    "Unsupported",
    "UriTooLong",
    "ValueTooLong",
]

# A peer chooses these octets: enough to recognise the fault, too few to fill a log.
EXCERPT_CHARS = 64


def excerpt(text: str | bytes) -> str:
    """Return the first octets of a peer's text, printable and short, for an error message."""
    cut = text[:EXCERPT_CHARS]
    return repr(cut) + ("…" if len(text) > EXCERPT_CHARS else "")


class SipError(Exception):
    """Root of the tree; never raised itself."""


class PeerError(SipError):
    """The other side broke a rule; ``status_hint`` is the SIP status that says so."""

    status_hint: int = 400

    def as_value(self) -> Self:
        """Return the same error without the frames and errors that it came by, to be kept or handed on.

        A traceback holds the frames that hold the peer's octets, and the list that the error is put into: a circle.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class ParseError(PeerError):
    """Octets that the grammar of RFC 3261 section 25.1 does not allow.

    Args:
        expected: what the grammar wants here, for a reader.
        found: the offending text, of any length; it is cut before it is shown.
        offset: octets from the start of what was being parsed, or None where that is not known.
    """

    def __init__(self, expected: str, found: str | bytes = "", offset: int | None = None) -> None:
        self.expected = expected
        self.found = excerpt(found)
        self.offset = offset
        place = "" if offset is None else f" at octet {offset}"
        super().__init__(f"expected {expected}{place}, found {self.found}")


class LimitError(PeerError):
    """More than :class:`msilo_core.Limits` allows.

    Args:
        size: what came, in the unit of the limit.
        limit: the bound that it passed.
    """

    what: ClassVar[str] = "size"

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"{self.what} of {size} is over the limit of {limit}")


class MessageTooLong(LimitError):
    """The whole message, start-line to body (RFC 3261 section 21.5.7)."""

    what = "message"
    status_hint = 513


class HeadTooLong(LimitError):
    """Start-line and headers together."""

    what = "head"
    status_hint = 513


class LineTooLong(LimitError):
    """One start-line or header line, folding included."""

    what = "line"


class TooManyHeaders(LimitError):
    """The number of header lines."""

    what = "number of headers"


class BodyTooLong(LimitError):
    """The body (RFC 3261 section 21.4.11)."""

    what = "body"
    status_hint = 413


class UriTooLong(LimitError):
    """A Request-URI, or the user part of one (RFC 3261 section 21.4.12)."""

    what = "URI"
    status_hint = 414


class ValueTooLong(LimitError):
    """A Call-ID, a tag or another value that is kept beside the message."""

    what = "value"


class Unsupported(PeerError):
    """A request that is well formed and not for us.

    Args:
        what: what is not supported, for a reader.
        status_hint: 405 for a method, 415 for a type, 416 for a scheme, 420 for an extension.
    """

    def __init__(self, what: str, status_hint: int) -> None:
        self.status_hint = status_hint
        super().__init__(f"{excerpt(what)} is not supported")


class LocalError(SipError):
    """Our caller broke the engine's contract, as with a token used twice."""


class StorageError(SipError):
    """A store could not do its work; drivers' own errors are mapped to one of the classes below."""


class Unavailable(StorageError):
    """The database does not answer, or the connection broke; what was under way may have happened."""


class Conflict(StorageError):
    """Somebody else changed or holds what was to be changed."""


class Full(StorageError):
    """The disk or a quota is full."""


class SchemaError(StorageError):
    """A table, a column or its version is not what this release works with."""
