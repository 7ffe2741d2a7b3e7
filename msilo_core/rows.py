"""Between a MESSAGE on the wire and a row of the table ``silo``, both ways, losing nothing between the ends.

What two ends say to each other is kept as it came: body, Content-Type, From, To, Call-ID, CSeq, Date and every header
that is not for the hop or for a server on the way. What is sent carries the same Call-ID, CSeq number and From tag as
what was received, at each attempt and to each device, so that a phone that has it already can tell (RFC 3261
section 8.2.2.2), also when it got it live and only its answer was lost.
"""

import hashlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

from msilo_core.actions import Message
from msilo_core.clock import Moment
from msilo_core.config import SiloConfig
from msilo_core.errors import ParseError, PeerError
from msilo_core.fields import format_date
from msilo_core.flow import Flow
from msilo_core.identity import without_hidden
from msilo_core.message import Request
from msilo_core.relay import MAX_FORWARDS
from msilo_core.targets import Target
from msilo_core.uri import Aor

__all__ = ["AlreadyExpired", "row_of", "serialise_row"]

# Not stored among the extra headers: those with a column of their own, those of the hop, and credentials, which were
# for a server on the way and must not lie in a database.
_NOT_EXTRA: Final = frozenset(
    {
        "via", "from", "to", "call-id", "cseq", "max-forwards", "max-breadth", "content-length", "content-type", "date",
        "route", "record-route", "proxy-require", "authorization", "proxy-authorization",
    }
)  # fmt: skip


class AlreadyExpired(PeerError):
    """``Expires: 0``: the sender wants it delivered now or never (RFC 3428 section 7)."""

    status_hint = 480


def row_of(
    request: Request,
    owner: Aor,
    src_addr: str,
    dst_addr: str,
    attempts: int,
    hidden: Collection[str],
    config: SiloConfig,
    now: Moment,
) -> Message:
    """Return the row that keeps a MESSAGE.

    Args:
        request: a validated MESSAGE.
        owner: whose inbox it goes to.
        src_addr: URI of the sender.
        dst_addr: URI of the recipient.
        attempts: how often it was sent to a phone already.
        hidden: keys of headers that are not kept.
        config: for the lifetime.
        now: arrival.

    Raises:
        AlreadyExpired: the request's Expires is 0.
        ParseError: a value that is kept as text is not UTF-8.
    """
    lifetime_s = config.expire_time
    if request.expires_s is not None:
        lifetime_s = min(lifetime_s, request.expires_s)
    if lifetime_s == 0:
        raise AlreadyExpired("Expires is 0")
    kept = [line for key, line in request.raw_lines if key not in _NOT_EXTRA and key not in hidden]
    ctype, date = request.content_type, request.get("date") or ""
    for text in (ctype, date, src_addr, dst_addr, request.call_id, request.from_.tag):
        # A lone surrogate stands for an octet that was not UTF-8. Text columns can hold neither that nor a NUL, which
        # may stand in a quoted string behind a backslash.
        if "\0" in text or (not text.isascii() and not _is_utf8(text)):
            raise ParseError("UTF-8 without NUL", text)
    return Message(
        owner=owner,
        src_addr=src_addr,
        dst_addr=dst_addr,
        inc_time_s=now.unix_s,
        exp_time_s=now.unix_s + lifetime_s,
        ctype=ctype,
        body=request.body,
        extra_hdrs="".join([f"{line}\r\n" for line in kept]),
        callid=request.call_id,
        cseq=request.cseq.number,
        from_tag=request.from_.tag,
        from_hdr=request.get("from") or "",
        to_hdr=request.get("to") or "",
        date_hdr=date,
        attempts=attempts,
    )


def serialise_row(
    message: Message, config: SiloConfig, is_trusted: Callable[[Flow], bool], target: Target, via: str
) -> bytes:
    """Return the MESSAGE that delivers a row to one contact.

    Args:
        message: the row.
        config: for `add_date`.
        is_trusted: whether what somebody asserted in confidence may go to a flow (RFC 3325 section 7).
        target: the contact.
        via: value of our Via.
    """
    extra_hdrs = message.extra_hdrs if is_trusted(target.flow) else without_hidden(message.extra_hdrs)
    body = _dated_body(message) if config.add_date else message.body
    lines = [
        f"MESSAGE {target.request_uri} SIP/2.0",
        f"Via: {via}",
        f"Max-Forwards: {MAX_FORWARDS}",
        f"From: {_from_value(message)}",
        f"To: {message.to_hdr or f'<{message.dst_addr}>'}",
        f"Call-ID: {message.callid or _derived(message, 'call-id')}",
        f"CSeq: {message.cseq if message.cseq >= 0 else 1} MESSAGE",
        f"Date: {message.date_hdr or format_date(message.inc_time_s)}",
    ]
    if target.route:
        lines.append(f"Route: {target.route}")
    if message.ctype:
        lines.append(f"Content-Type: {message.ctype}")
    head = "\r\n".join(lines)
    head = f"{head}\r\n{extra_hdrs}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + body


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_value(message: Message) -> str:
    if message.from_hdr and message.from_tag:
        return message.from_hdr
    # A sender of RFC 2543, or a row that Kamailio wrote: today's phones refuse a request without a From tag.
    return f"{message.from_hdr or f'<{message.src_addr}>'};tag={_derived(message, 'tag')}"


def _derived(message: Message, what: str) -> str:
    # The same at each attempt and on each server: made of what identifies the row and never changes.
    identity = f"{what}|{message.message_id}|{message.owner}|{message.inc_time_s}|{message.callid}"
    return hashlib.blake2s(identity.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


def _dated_body(message: Message) -> bytes:
    if message.ctype.lower() != "text/plain":
        return message.body
    arrived = datetime.fromtimestamp(message.inc_time_s, UTC).strftime("%a %b %e %H:%M:%S %Y")
    return f"[Offline message - {arrived}] ".encode() + message.body
