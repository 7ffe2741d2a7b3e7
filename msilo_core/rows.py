"""Between a MESSAGE on the wire and a row of the table ``silo``, both ways, losing nothing between the ends.

What two ends say to each other is kept as it came: body, Content-Type, From, To, Call-ID, CSeq, Date and every header
that is not for the hop or for a server on the way. What is sent carries the same Call-ID, CSeq number and From tag as
what was received, at each attempt and to each device, so that a phone that has it already can tell (RFC 3261
section 8.2.2.2), also when it got it live and only its answer was lost.
"""

import hashlib
import re
from collections.abc import Callable, Collection
from typing import Final

from msilo_core.actions import Message
from msilo_core.clock import Moment
from msilo_core.errors import ParseError, PeerError
from msilo_core.fields import format_date
from msilo_core.flow import Flow
from msilo_core.identity import without_hidden
from msilo_core.message import Request
from msilo_core.parameters import SiloConfig
from msilo_core.pseudovars import ctime
from msilo_core.relay import MAX_FORWARDS
from msilo_core.targets import Target
from msilo_core.uri import Aor

__all__ = ["AlreadyExpired", "derived", "row_of", "serialise_row"]

# Not stored among the extra headers: those with a column of their own, those of the hop, and credentials, which were
# for a server on the way and must not lie in a database.
_NOT_EXTRA: Final = frozenset(
    {
        "via", "from", "to", "call-id", "cseq", "max-forwards", "max-breadth", "content-length", "content-type", "date",
        "route", "record-route", "proxy-require", "authorization", "proxy-authorization",
    }
)  # fmt: skip


# A line with its folds.
# RFC 3261 section 8.1.1.5: "MUST be expressible as a 32-bit unsigned integer and MUST be less than 2**31".
_CSEQ_MAX: Final = 2**31 - 1
_CONTACT: Final = re.compile(
    r"^(?:contact|m)[ \t]*+:[^\r]*+\r\n(?>(?:[ \t][^\r]*+\r\n)*)", re.IGNORECASE | re.MULTILINE
)


class AlreadyExpired(PeerError):
    """``Expires: 0``: the sender wants it delivered now or never (RFC 3428 section 7)."""

    status_hint = 480


def row_of(
    request: Request,
    owner: Aor,
    src_addr: str,
    dst_addr: str,
    attempts: int,
    reached: int,
    hidden: Collection[str],
    config: SiloConfig,
    now: Moment,
    *,
    snd_time_s: int = 0,
    extra_hdrs: str | None = None,
    imdn: int = 0,
) -> Message:
    """Return the row that keeps a MESSAGE.

    Args:
        request: a validated MESSAGE.
        owner: whose inbox it goes to.
        src_addr: URI of the sender.
        dst_addr: URI of the recipient.
        attempts: how often it was tried to send it to a phone already.
        reached: how often a phone may have got it by that.
        hidden: keys of headers that are not kept.
        config: for the lifetime.
        now: arrival.
        snd_time_s: when it is due, after `now`; 0 for as soon as its owner is there.
        extra_hdrs: header lines to keep instead of the request's own, each ending in CRLF.
        imdn: see :class:`msilo_core.Message`.

    Raises:
        AlreadyExpired: the request's Expires is 0.
        ParseError: a value that is kept as text is not UTF-8.
    """
    if extra_hdrs is None:
        kept = [line for key, line in request.head.items() if key not in _NOT_EXTRA and key not in hidden]
        extra_hdrs = "\r\n".join([*kept, ""])
    ctype, date, callid, from_tag = request.content_type, request.get("date") or "", request.call_id, request.from_.tag
    texts = f"{ctype}{date}{src_addr}{dst_addr}{callid}{from_tag}"
    # A lone surrogate stands for an octet that was not UTF-8. Text columns can hold neither that nor a NUL, which may
    # stand in a quoted string behind a backslash.
    if "\0" in texts or not (texts.isascii() or _is_utf8(texts)):
        raise ParseError("UTF-8 without NUL", texts)
    # Not all by name: CPython makes a dict of more than fifteen of those, which costs more than all the rest of this.
    now_s = now.unix_s
    return Message(
        owner,
        src_addr,
        dst_addr,
        now_s,
        _exp_time_s(request, config, now_s, snd_time_s),
        snd_time_s,
        ctype=ctype,
        body=request.body,
        extra_hdrs=extra_hdrs,
        callid=callid,
        cseq=request.cseq.number,
        from_tag=from_tag,
        from_hdr=request.get("from") or "",
        to_hdr=request.get("to") or "",
        date_hdr=date,
        attempts=attempts,
        reached=reached,
        imdn=imdn,
    )


def _exp_time_s(request: Request, config: SiloConfig, now_s: int, snd_time_s: int) -> int:
    """Return when a message expires: RFC 3428 section 7 counts from Date, where that is credible.

    It is where it is past, and the message not expired by it: a clock that is wrong must not lose what it dates. A
    deferred message has its whole lifetime from when it is due.
    """
    asked_s = request.expires_s
    if asked_s == 0:
        raise AlreadyExpired("Expires is 0")
    if snd_time_s:
        return snd_time_s + (config.expire_time if asked_s is None else min(config.expire_time, asked_s))
    end_s = now_s + config.expire_time
    if asked_s is None:
        return end_s
    since_s = now_s
    try:
        dated_s = request.date_s
    except PeerError:
        dated_s = None
    if dated_s is not None and dated_s <= now_s < dated_s + asked_s:
        since_s = dated_s
    return min(end_s, since_s + asked_s)


def serialise_row(
    message: Message,
    config: SiloConfig,
    is_trusted: Callable[[Flow], bool],
    target: Target,
    via: str,
    added_hdrs: str = "",
) -> bytes:
    """Return the MESSAGE that delivers a row to one contact.

    Args:
        message: the row; one with a `snd_time_s` is a reminder.
        config: how.
        is_trusted: whether what somebody asserted in confidence may go to a flow (RFC 3325 section 7).
        target: the contact.
        via: value of our Via.
        added_hdrs: header lines that are added, each ending in CRLF.
    """
    extra_hdrs = message.extra_hdrs if is_trusted(target.flow) else without_hidden(message.extra_hdrs)
    body = _dated_body(message, config) if config.add_date else message.body
    is_from_reminder = message.snd_time_s and config.reminder and config.reminder_sender == "reminder"
    lines = [
        f"MESSAGE {target.request_uri} SIP/2.0",
        f"Via: {via}",
        f"Max-Forwards: {MAX_FORWARDS}",
        f"From: {_reminder_value(message, config) if is_from_reminder else _from_value(message)}",
        f"To: {f'<{message.owner}>' if is_from_reminder else message.to_hdr or f'<{message.dst_addr}>'}",
        f"Call-ID: {message.callid or derived(message, 'call-id')}",
        f"CSeq: {_cseq(message, target)} MESSAGE",
        f"Date: {message.date_hdr or format_date(message.inc_time_s)}",
    ]
    if target.route:
        lines.append(f"Route: {target.route}")
    if message.ctype:
        lines.append(f"Content-Type: {message.ctype}")
    if config.add_contact:
        lines.append(f"Contact: <{config.reminder if is_from_reminder else message.src_addr}>;msilo=yes")
        # In place of the sender's own.
        extra_hdrs = _CONTACT.sub("", extra_hdrs)
    lines += [f"{name}: {credentials}" for name, credentials in target.credentials]
    head = "\r\n".join(lines)
    head = f"{head}\r\n{added_hdrs}{extra_hdrs}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + body


def derived(message: Message, what: str) -> str:
    """Return 24 hexadecimal digits that are always the same for a row, on each server; others for another `what`."""
    # Made of what identifies the row and never changes.
    identity = f"{what}|{message.message_id}|{message.owner}|{message.inc_time_s}|{message.callid}"
    return hashlib.blake2s(identity.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


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
    return f"{message.from_hdr or f'<{message.src_addr}>'};tag={derived(message, 'tag')}"


def _reminder_value(message: Message, config: SiloConfig) -> str:
    return f"<{config.reminder}>;tag={message.from_tag or derived(message, 'tag')}"


def _cseq(message: Message, target: Target) -> int:
    # "... it MUST increment the CSeq header field value" (RFC 3261 section 22.2): by one, however often it was
    # challenged, so that whoever got it with credentials before knows it again.
    cseq = message.cseq if message.cseq >= 0 else 1
    return cseq + 1 if target.credentials and cseq < _CSEQ_MAX else cseq


def _dated_body(message: Message, config: SiloConfig) -> bytes:
    if message.ctype.lower() != "text/plain":
        return message.body
    if message.snd_time_s:
        prefix = f"[Reminder message - {ctime(message.snd_time_s, config.zone)}] "
    else:
        prefix = f"[Offline message - {ctime(message.inc_time_s, config.zone)}] "
    return prefix.encode() + message.body
