"""Instant Message Disposition Notifications (RFC 5438): who asked to be told what, and the message that tells it.

We are an intermediary that stores: we say that a message is stored, and that it cannot be delivered. That a phone has
it, and that somebody saw it, is for the phone to say. "The IM Sender MUST NOT send an IMDN for an IMDN" (section
7.2.1), nor does anybody else.
"""

import re
from datetime import UTC, datetime
from enum import Enum
from typing import Final

import msgspec

from msilo_core.cpim import Cpim, formal_address, parse_cpim, unescape_cpim
from msilo_core.errors import ParseError, PeerError
from msilo_core.fields import parse_disposition, parse_media_type, split_list

__all__ = ["CPIM_TYPE", "NEGATIVE_DELIVERY", "PROCESSING", "Disposition", "Im", "build_imdn", "is_imdn", "read_im"]

CPIM_TYPE: Final = "message/cpim"
"""The Content-Type of both: "MUST be of MIME type "message/cpim" for both IMs and IMDNs" (section 12.1.1)."""

PROCESSING: Final = "processing"
"""What a sender asks for who is to be told that a message was stored (section 8.1)."""

NEGATIVE_DELIVERY: Final = "negative-delivery"
"""What a sender asks for who is to be told that a message cannot be delivered (section 8.2)."""

_IMDN_HEADERS: Final = "urn:ietf:params:imdn"
_IMDN_TYPE: Final = "message/imdn+xml"


class Disposition(Enum):
    """What is told: the element of the XML document, and that of its status (section 11.1.7)."""

    STORED = ("processing-notification", "stored")
    FAILED = ("delivery-notification", "failed")


class Im(msgspec.Struct, frozen=True, gc=False):
    """A message whose sender asked for IMDNs, as far as they repeat it.

    Attributes:
        asked: values of Disposition-Notification; at least one.
        message_id: its Message-ID.
        date_time: its DateTime, or empty.
        sender: value of From as received, or empty if that is none.
        recipient: value of To as received, or empty if that is none.
        recipient_uri: the URI in `recipient`, or empty.
        original_uri: the URI in Original-To, or empty.
        route: values of IMDN-Record-Route as received.
    """

    asked: frozenset[str]
    message_id: str
    date_time: str
    sender: str
    recipient: str
    recipient_uri: str
    original_uri: str
    route: tuple[str, ...]


def read_im(content_type: str, body: bytes) -> Im | None:
    """Return what an IMDN about a message needs; None where there may be none.

    So it is for what asks for none, for an IMDN, and for what cannot be read, or has no Message-ID to tell it by. And
    for content that is signed or encrypted: "The same level of security applied to an IM MUST be applied to its IMDNs"
    (section 14.2), for which we have no keys.

    Args:
        content_type: value of the Content-Type of the SIP request.
        body: of the request.
    """
    if not _is_cpim(content_type) or b"Disposition-Notification" not in body:
        return None
    try:
        cpim = parse_cpim(body)
        if _is_notification(cpim) or _is_secured(cpim):
            return None
        return _read(cpim)
    except PeerError:
        return None


def is_imdn(content_type: str, body: bytes) -> bool:
    """Say whether a request carries an IMDN (section 9), one that aggregates several too (section 8.3).

    Args:
        content_type: value of the Content-Type of the SIP request.
        body: of the request.
    """
    try:
        if not _is_cpim(content_type):
            return _media_type(content_type) == _IMDN_TYPE
        return _is_notification(parse_cpim(body))
    except PeerError:
        return False


def build_imdn(
    im: Im, disposition: Disposition, message_id: str, *, sender_uri: str, recipient_uri: str, stored_s: int, now_s: int
) -> bytes:
    """Return the body of an IMDN, of type :data:`CPIM_TYPE`.

    Args:
        im: what it is about.
        disposition: what it says.
        message_id: its own.
        sender_uri: of the sender of `im`, who it is for, where that does not say so itself.
        recipient_uri: of the recipient of `im`, in the same way.
        stored_s: when `im` came, in Unix s: the time that it was sent at where it does not say.
        now_s: the present, in Unix s.
    """
    uri = im.recipient_uri or recipient_uri
    kind, status = disposition.value
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\r\n'
        '<imdn xmlns="urn:ietf:params:xml:ns:imdn">\r\n'
        f"<message-id>{_xml(im.message_id)}</message-id>\r\n"
        f"<datetime>{_xml(im.date_time) or _date_time(stored_s)}</datetime>\r\n"
        f"<recipient-uri>{_xml(uri)}</recipient-uri>\r\n"
        # The schema has both or none.
        f"<original-recipient-uri>{_xml(im.original_uri or uri)}</original-recipient-uri>\r\n"
        f"<{kind}><status><{status}/></status></{kind}>\r\n"
        "</imdn>\r\n"
    ).encode()
    # From whom it was for, as from an IM Recipient (section 12.2). "... MUST copy the contents of the
    # IMDN-Record-Route header fields into IMDN-Route header fields ... and maintain their order" (section 7.2.1).
    lines = [
        f"From: {im.recipient or f'<{recipient_uri}>'}",
        f"To: {im.sender or f'<{sender_uri}>'}",
        f"DateTime: {_date_time(now_s)}",
        f"NS: imdn <{_IMDN_HEADERS}>",
        f"imdn.Message-ID: {message_id}",
        *(f"imdn.IMDN-Route: {address}" for address in im.route),
        "",
        f"Content-Type: {_IMDN_TYPE}",
        "Content-Disposition: notification",
        f"Content-Length: {len(document)}",
        "\r\n",
    ]
    return "\r\n".join(lines).encode() + document


# What an IMDN repeats, together: some identifiers and addresses. In XML, and twice, it is still far from the longest
# message, and a small one causes no big one.
_REPEATED_CHARS_MAX: Final = 2048

_MESSAGE_ID: Final = re.compile(r"[^\s\x00-\x20\x7F]++")
_SECURED: Final = frozenset({"multipart/signed", "multipart/encrypted", "application/pkcs7-mime"})
# Neither of the last two is a character to XML.
_XML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\ufffe": "\ufffd", "\uffff": "\ufffd"})


def _read(cpim: Cpim) -> Im | None:
    values = cpim.values("Disposition-Notification", _IMDN_HEADERS)
    asked = frozenset(part.partition(";")[0].strip(" ") for value in values for part in split_list(value))
    if not asked:
        return None
    message_id = unescape_cpim(next(iter(cpim.values("Message-ID", _IMDN_HEADERS)), ""))
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise ParseError("a Message-ID", message_id)
    sender, _ = _address(cpim.values("From"))
    recipient, recipient_uri = _address(cpim.values("To"))
    _, original_uri = _address(cpim.values("Original-To", _IMDN_HEADERS))
    route = tuple(cpim.values("IMDN-Record-Route", _IMDN_HEADERS))
    date_time = next(iter(cpim.values("DateTime")), "")
    repeated = (message_id, date_time, sender, recipient, recipient_uri, original_uri, *route)
    if sum(map(len, repeated)) > _REPEATED_CHARS_MAX:
        return None
    return Im(asked, message_id, date_time, sender, recipient, recipient_uri, original_uri, route)


def _address(values: list[str]) -> tuple[str, str]:
    """Return the first of the addresses as received, and its URI; both empty if it is none."""
    for value in values:
        try:
            return value, formal_address(value)
        except ParseError:
            break
    return "", ""


def _is_cpim(content_type: str) -> bool:
    size = len(CPIM_TYPE)
    return content_type[:size].lower() == CPIM_TYPE and content_type[size:].lstrip(" \t")[:1] in ("", ";")


def _is_notification(cpim: Cpim) -> bool:
    """Say whether a message is an IMDN; any of its marks will do, for one must never be answered by another."""
    if _media_type(cpim.content_headers["content-type"]) == _IMDN_TYPE:
        return True
    disposition = cpim.content_headers.get("content-disposition")
    return disposition is not None and parse_disposition(disposition).type == "notification"


def _is_secured(cpim: Cpim) -> bool:
    return _media_type(cpim.content_headers["content-type"]) in _SECURED


def _media_type(text: str) -> str:
    media_type = parse_media_type(text)
    return f"{media_type.type}/{media_type.subtype}"


def _xml(text: str) -> str:
    return text.translate(_XML)


def _date_time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
