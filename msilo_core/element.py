"""What every SIP element has below its own logic: framing, the two kinds of transactions, answers, streams.

The transport and transaction layers of RFC 3261 (sections 17 and 18) as one base class. The engine puts registrar,
relay and silo on top of it, the user agent a phone's few words.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final, assert_never

from msilo_core.actions import Action, CloseFlow, Dropped, HandOver, Send
from msilo_core.admission import SUPPORTED, inspect
from msilo_core.clock import Deadlines, Moment, earliest
from msilo_core.compose import build_response
from msilo_core.config import Config
from msilo_core.entropy import Entropy
from msilo_core.errors import LocalError, PeerError
from msilo_core.fields import parse_sent_by
from msilo_core.flow import Flow
from msilo_core.framing import Keepalive, Malformed, StreamFramer, frame_datagram
from msilo_core.limits import Limits
from msilo_core.message import Request, Response
from msilo_core.statistics import Statistics
from msilo_core.transactions import ClientTransactions, ServerTransaction, ServerTransactions, server_key
from msilo_core.transport import way_back

__all__ = ["REASONS", "Element"]

REASONS: Final[dict[int, str]] = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    423: "Interval Too Brief",
    430: "Flow Failed",
    440: "Max-Breadth Exceeded",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "Version Not Supported",
    513: "Message Too Large",
}
"""Reason phrases of RFC 3261 section 21; for 202, RFC 3428 section 7; 430, RFC 5626; 440, RFC 5393."""


class _Stream:
    """The framer of one stream, and how many octets of an unfinished message were last counted in it."""

    __slots__ = ("framer", "pending_bytes")

    def __init__(self, limits: Limits) -> None:
        self.framer = StreamFramer(limits)
        self.pending_bytes = 0


class Element(ABC):
    """A SIP element without I/O; what it makes of a new request is for a subclass to say."""

    allow: ClassVar[tuple[str, ...]]
    """Methods that are answered with something else than 405 or 501."""

    proxied: ClassVar[tuple[str, ...]] = ()
    """Those of them that may go on to another element."""

    def __init__(self, config: Config, limits: Limits | None, entropy: random.Random | None, now: Moment) -> None:
        self.statistics = Statistics()
        self._config = config
        self._limits = limits if limits is not None else Limits()
        self._entropy = Entropy(entropy if entropy is not None else random.SystemRandom(), config.worker.mark)
        self._now = now
        self._servers = ServerTransactions(config, self._limits)
        self._clients = ClientTransactions(config, self._limits)
        self._streams: dict[Flow, _Stream] = {}
        self._streams_bytes = 0
        self._stream_deadlines: Deadlines[Flow] = Deadlines()

    # -- Inputs --------------------------------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, flow: Flow, now: Moment) -> list[Action]:
        """Take one datagram (RFC 3261 section 18.3).

        Args:
            data: its octets, 0 to 65,535.
            flow: where it came from, and the socket it came to.
            now: instant of arrival.
        """
        return self._receive(frame_datagram(data, self._limits), flow, self._told(now))

    def receive_stream(self, data: bytes, flow: Flow, now: Moment) -> list[Action]:
        """Take octets of a stream (RFC 3261 section 18.3, section 7.5).

        Args:
            data: one or more octets, cut anywhere; the end of the stream is :meth:`flow_closed`.
            flow: the connection they came by; the first octets make it known.
            now: instant of arrival.

        Raises:
            LocalError: `data` is empty.
        """
        if not data:
            raise LocalError("no octets: the end of a stream is flow_closed")
        now = self._told(now)
        stream = self._streams.get(flow)
        if stream is None:
            stream = self._streams[flow] = _Stream(self._limits)
        actions: list[Action] = []
        found = stream.framer.receive(data)
        if found:
            # What is pending now began behind them.
            self._stream_deadlines.disarm(flow)
        for framed in found:
            actions += self._receive(framed, flow, now)
            if isinstance(framed, Malformed) and framed.fatal:
                return actions + self._cut(flow, str(framed.error), now)
        return actions + self._watch(stream, flow, now)

    def receive_handed_over(self, data: bytes, flow: Flow, now: Moment) -> list[Action]:
        """Take a response that came to another worker, which knew it for one of ours: see :class:`HandOver`.

        It is not handed on, whatever its branch says.

        Args:
            data: the response.
            flow: where it came from, as the other worker knows it.
            now: the present.
        """
        framed = frame_datagram(data, self._limits)
        if isinstance(framed, Response) and (transaction := self._clients.find(framed)) is not None:
            return self._clients.receive(transaction, framed, self._told(now))
        return self._drop(flow, "response without a transaction")

    def flow_opened(self, flow: Flow, now: Moment) -> list[Action]:
        """A stream was accepted; it must send a whole message within ``stream_message_ms``. Needed for nothing else."""
        now = self._told(now)
        self._streams.setdefault(flow, _Stream(self._limits))
        self._stream_deadlines.arm(flow, now.mono_ms + self._limits.stream_message_ms)
        return []

    def flow_closed(self, flow: Flow, reason: str, now: Moment) -> list[Action]:
        """A stream ended; what waits for an answer on it has failed. Datagram flows do not end."""
        del reason
        now = self._told(now)
        self._forget(flow)
        return self._clients.flow_closed(flow, now)

    def send_failed(self, token: int, now: Moment) -> list[Action]:
        """A :class:`Send` with this `token` could not be carried out (RFC 3261 section 17.1.4)."""
        return self._clients.send_failed(token, self._told(now))

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Do what is due; called early, nothing."""
        now = self._told(now)
        actions = self._servers.handle_timeout(now)
        actions += self._clients.handle_timeout(now)
        for flow in self._stream_deadlines.pop_due(now.mono_ms):
            actions += self._cut(flow, "a message took too long", now)
        return actions

    def next_timeout(self) -> int | None:
        """Return when :meth:`handle_timeout` is to be called, in ``mono_ms``; None if nothing is due ever."""
        return earliest(self._servers.next_timeout(), self._clients.next_timeout(), self._stream_deadlines.next_ms())

    # -- For a subclass ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _receive_new(self, request: Request, key: str, flow: Flow, now: Moment) -> list[Action]:
        """A request came that is new and of an allowed method; `key` is for a transaction, if it is to have one."""

    def _respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: Moment,
        reason: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> list[Action]:
        request = transaction.request
        if request is None:
            # It was answered before, or is not to be any more.
            return []
        response = self._response(request, transaction.via_suffix, status, reason, headers)
        return self._servers.respond(transaction, status, response, now)

    def _answer(
        self, request: Request, flow: Flow, status: int, reason: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> list[Action]:
        """Answer without a transaction (RFC 3261 section 8.2.7): a repeat is answered anew."""
        # "... the same tag MUST be used for all responses to that request" (RFC 3261 section 8.2.6.2).
        tag = self._entropy.stable_tag(server_key(request))
        way, via_suffix = way_back(request.via, flow)
        return [Send(way, self._response(request, via_suffix, status, reason, headers, tag))]

    def _answer_options(self, request: Request, flow: Flow) -> list[Action]:
        """Say what we can do (RFC 3261 section 11.2); a body is kept as it is, whatever its type and language."""
        headers = [("Accept", "*/*"), ("Accept-Encoding", "*"), ("Accept-Language", "*")]
        headers.append(("Supported", ", ".join(SUPPORTED)))
        return self._answer(request, flow, 200, "", headers)

    def _response(
        self,
        request: Request,
        via_suffix: str,
        status: int,
        reason: str = "",
        headers: Sequence[tuple[str, str]] = (),
        to_tag: str = "",
    ) -> bytes:
        if status == 503 and not headers:
            headers = [("Retry-After", str(self._limits.retry_after_s))]
        elif status in (405, 501) or request.method == "OPTIONS":
            headers = [*headers, ("Allow", ", ".join(self.allow))]
        return build_response(
            request,
            status,
            reason or REASONS.get(status, "Unknown"),
            to_tag=to_tag or self._entropy.tag(),
            via_suffix=via_suffix,
            headers=headers,
        )

    def _refuse_malformed(self, malformed: Malformed, flow: Flow, now: Moment) -> list[Action]:
        del now
        request = malformed.message
        if not isinstance(request, Request) or request.method == "ACK":
            return self._drop(flow, f"malformed: {type(malformed.error).__name__}")
        try:
            way, via_suffix = _readable_way_back(request, flow)
        except PeerError:
            return self._drop(flow, "malformed: no usable Via")
        response = self._response(request, via_suffix, malformed.error.status_hint)
        dropped = self._drop(flow, f"malformed: {type(malformed.error).__name__}")
        return [*dropped, Send(way, response)]

    def _drop(self, flow: Flow, reason: str) -> list[Action]:
        dropped = self.statistics.dropped
        dropped[reason] = dropped.get(reason, 0) + 1
        return [Dropped(flow, reason)]

    # -- Messages ------------------------------------------------------------------------------------------------------

    def _told(self, now: Moment) -> Moment:
        # A clock that is read in several threads may seem to step back; deadlines must not.
        if now.mono_ms < self._now.mono_ms:
            return self._now
        self._now = now
        return now

    def _receive(self, framed: Request | Response | Malformed | Keepalive, flow: Flow, now: Moment) -> list[Action]:
        match framed:
            case Request():
                return self._receive_request(framed, flow, now)
            case Response():
                return self._receive_response(framed, flow, now)
            case Malformed():
                return self._refuse_malformed(framed, flow, now)
            case Keepalive():
                # RFC 5626 section 3.5.1: a double CRLF on a stream is a ping, answered by a single one.
                return [Send(flow, b"\r\n")] if flow.is_stream else []
            case _:
                assert_never(framed)

    def _receive_response(self, response: Response, flow: Flow, now: Moment) -> list[Action]:
        transaction = self._clients.find(response)
        if transaction is not None:
            return self._clients.receive(transaction, response, now)
        worker = self._config.worker.other(response.via.branch)
        if worker is None:
            return self._drop(flow, "response without a transaction")
        return [HandOver(worker, flow, response.serialise())]

    def _receive_request(self, request: Request, flow: Flow, now: Moment) -> list[Action]:
        if request.method == "ACK":
            # Never answered: it ends the INVITE that we answered 405.
            return self._drop(flow, "ACK")
        key = server_key(request)
        known = self._servers.find(key)
        if known is not None:
            return self._servers.repeat(known, now)
        if request.method == "CANCEL":
            return self._cancel(request, key, flow)
        refusal = inspect(request, self.allow, self.proxied)
        if refusal is not None:
            return self._answer(request, flow, refusal.status, refusal.reason, refusal.headers)
        return self._receive_new(request, key, flow, now)

    def _cancel(self, request: Request, key: str, flow: Flow) -> list[Action]:
        # Section 9.2: the transaction it means has the same branch and sent-by. "If the original request was not an
        # INVITE ... the CANCEL request has no effect on the processing of transactions".
        prefix = key.removesuffix("CANCEL")
        known = any(self._servers.find(prefix + method) for method in self.allow)
        return self._answer(request, flow, 200 if known else 481)

    # -- Streams -------------------------------------------------------------------------------------------------------

    def _watch(self, stream: _Stream, flow: Flow, now: Moment) -> list[Action]:
        """Bound what an unfinished message may cost, in octets and in time."""
        was, pending = stream.pending_bytes, stream.framer.pending_bytes
        stream.pending_bytes = pending
        self._streams_bytes += pending - was
        if not pending:
            self._stream_deadlines.disarm(flow)
        elif flow not in self._stream_deadlines:
            self._stream_deadlines.arm(flow, now.mono_ms + self._limits.stream_message_ms)
        if self._streams_bytes > self._limits.streams_bytes_max and pending:
            return self._cut(flow, "too many octets of unfinished messages", now)
        return []

    def _cut(self, flow: Flow, reason: str, now: Moment) -> list[Action]:
        self._forget(flow)
        return [
            CloseFlow(flow, reason),
            *self._drop(flow, "stream cut"),
            *self._clients.flow_closed(flow, now),
        ]

    def _forget(self, flow: Flow) -> None:
        stream = self._streams.pop(flow, None)
        if stream is not None:
            self._streams_bytes -= stream.pending_bytes
        self._stream_deadlines.disarm(flow)


def _readable_way_back(request: Request, flow: Flow) -> tuple[Flow, str]:
    """Return where a malformed request is to be answered, and what to add to its Via.

    Raises:
        ParseError: it does not say who sent it.
    """
    try:
        return way_back(request.via, flow)
    except PeerError:
        # RFC 4475 section 3.1.2.1: parameters that nobody can read, to which nothing is added.
        return way_back(parse_sent_by(request.get("via") or ""), flow)[0], ""
