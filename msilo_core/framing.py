"""Datagrams and streams to messages (RFC 3261 sections 7.5 and 18.3)."""

from enum import Enum
from typing import Final

import msgspec

from msilo_core.errors import HeadTooLong, ParseError, PeerError
from msilo_core.head import HEAD_END, answerable_head
from msilo_core.limits import Limits
from msilo_core.message import Request, Response, tokenise

__all__ = ["KEEPALIVE", "Keepalive", "Malformed", "StreamFramer", "frame_datagram"]

_LIMITS: Final = Limits()
_CRLF: Final = b"\r\n"


class Keepalive(Enum):
    """Type of :data:`KEEPALIVE`."""

    KEEPALIVE = "keepalive"


KEEPALIVE: Final = Keepalive.KEEPALIVE
"""CRLFs instead of a message: on a stream a ping, to be answered with one CRLF (RFC 5626 section 3.5.1)."""


class Malformed(msgspec.Struct, frozen=True):
    """Octets that are no valid message.

    Attributes:
        error: what is wrong; its hint is the status for an answer.
        message: what could be made out, not validated, for :func:`msilo_core.build_response`; or None.
        fatal: a stream cannot go on behind it, since nobody knows where the next message begins.
    """

    error: PeerError
    message: Request | Response | None
    fatal: bool = False


def frame_datagram(data: bytes, limits: Limits = _LIMITS) -> Request | Response | Malformed | Keepalive:
    """Return the one message of a datagram, validated, or what is wrong with it."""
    if not data.strip(b"\r\n"):
        return KEEPALIVE
    message: Request | Response | None = None
    try:
        message = tokenise(data, limits)
        message.trim_body()
        message.validate()
    except PeerError as error:
        return Malformed(error.as_value(), _answerable(data, limits) if message is None else message)
    return message


class StreamFramer:
    """The messages of one stream, however it is cut.

    An octet is searched once for the end of the head, and no more is kept than ``limits.message_bytes_max`` and what
    one call of :meth:`receive` brought.
    """

    __slots__ = ("_body_bytes", "_broken", "_buffer", "_crlf", "_limits", "_message", "_searched")

    def __init__(self, limits: Limits = _LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0
        self._crlf = False
        self._message: Request | Response | None = None
        self._body_bytes = 0
        self._broken = False

    @property
    def pending_bytes(self) -> int:
        """Octets of a message whose end has not come; 0 between messages."""
        head_bytes = 0 if self._message is None else self._message.head.size_bytes + len(HEAD_END)
        return head_bytes + len(self._buffer)

    def receive(self, data: bytes) -> list[Request | Response | Malformed | Keepalive]:
        """Take octets, cut anywhere, and return what they complete, in order.

        Messages are validated. After a :class:`Malformed` that is fatal, further octets are ignored.
        """
        if not self._broken:
            self._buffer += data
        found: list[Request | Response | Malformed | Keepalive] = []
        while (item := self._next()) is not None:
            found.append(item)
        return found

    def _next(self) -> Request | Response | Malformed | Keepalive | None:
        if self._broken:
            return None
        message = self._message
        if message is None:
            # Once so much of a head was looked at, no CRLF stands before it any more.
            if self._searched < len(_CRLF) and self._skip_crlf():
                return KEEPALIVE
            if len(self._buffer) < len(HEAD_END):
                return None
            try:
                raw_head = self._take_head()
            except HeadTooLong as error:
                return self._break(error, None)
            if raw_head is None:
                return None
            try:
                message = tokenise(raw_head, self._limits)
            except PeerError as error:
                return self._break(error, _answerable(raw_head, self._limits))
            try:
                message.check_start_line()
                length = message.content_length
                if length is None:
                    # RFC 3261 section 20.14: "If a stream-based protocol is used as transport, the header
                    # field MUST be used."
                    raise ParseError("a Content-Length")
                message.check_size(length)
            except PeerError as error:
                return self._break(error, message)
            self._message = message
            self._body_bytes = length
        buffer = self._buffer
        length = self._body_bytes
        if len(buffer) < length:
            return None
        self._message = None
        if length:
            message.body = bytes(buffer[:length])
            del buffer[:length]
        try:
            message.validate()
        except PeerError as error:
            return self._break(error, message) if _is_glued(message) else Malformed(error.as_value(), message)
        return message

    def _skip_crlf(self) -> bool:
        """Drop CRLFs before a start-line; say whether a second one in a row made a ping."""
        buffer = self._buffer
        while buffer.startswith(_CRLF):
            del buffer[: len(_CRLF)]
            self._crlf = not self._crlf
            if not self._crlf:
                return True
        if buffer and not b"\r".startswith(buffer):
            self._crlf = False
        return False

    def _take_head(self) -> bytes | None:
        """Take start-line and headers out of the buffer, or return None if their end has not come."""
        buffer = self._buffer
        end = buffer.find(HEAD_END, max(0, self._searched - len(HEAD_END) + 1))
        # Three octets more may be the begin of the empty line.
        size = len(buffer) - len(HEAD_END) + 1 if end < 0 else end
        if size > self._limits.head_bytes_max:
            # How long it would have become nobody knows: so much at least, and the same however it was cut.
            raise HeadTooLong(self._limits.head_bytes_max + 1, self._limits.head_bytes_max)
        if end < 0:
            self._searched = len(buffer)
            return None
        end += len(HEAD_END)
        raw_head = bytes(buffer[:end])
        del buffer[:end]
        self._searched = 0
        return raw_head

    def _break(self, error: PeerError, message: Request | Response | None) -> Malformed:
        self._broken = True
        self._buffer.clear()
        return Malformed(error.as_value(), message, fatal=True)


def _answerable(data: bytes, limits: Limits) -> Request | Response | None:
    """Return what can be made out of a head that is none, for an answer to it."""
    head = answerable_head(data)
    try:
        return None if head is None else tokenise(head, limits)
    except PeerError:
        return None


def _is_glued(message: Request | Response) -> bool:
    """Say whether a method looks like ``loMESSAGE``: behind the end of a body whose Content-Length was too small."""
    if not isinstance(message, Request):
        return False
    try:
        method = message.cseq.method
    except ParseError:
        return False
    return message.method != method and message.method.endswith(method)
