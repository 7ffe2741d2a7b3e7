"""The needed fields of a message, by msilo.

Needed is what the engine needs: all header lines found; the Request-URI, From and To taken apart to user, host and
port, with their tags; branch of the topmost Via; Call-ID; CSeq; the body cut to Content-Length. Of a MESSAGE
Content-Type too, of a REGISTER Contact with its parameters, and Expires.
"""

from typing import Any, TypeAlias

from msilo_core import STAR, Request, parse_message

__all__ = ["Needed", "message", "register"]

Needed: TypeAlias = tuple[Any, ...]


def message(data: bytes) -> Needed:
    """Return the needed fields of a MESSAGE."""
    request = parse_message(data)
    assert isinstance(request, Request)
    uri, sender, recipient, cseq = request.uri, request.from_, request.to, request.cseq
    from_uri, to_uri = sender.uri, recipient.uri
    return (
        request.method, uri.user, uri.host, uri.port, request.via.branch, request.call_id, cseq.number, cseq.method,
        from_uri.user, from_uri.host, from_uri.port, sender.tag, to_uri.user, to_uri.host, to_uri.port, recipient.tag,
        request.content_type, request.body,
    )  # fmt: skip


def register(data: bytes) -> Needed:
    """Return the needed fields of a REGISTER."""
    request = parse_message(data)
    assert isinstance(request, Request)
    uri, sender, recipient, cseq, contacts = request.uri, request.from_, request.to, request.cseq, request.contacts
    assert contacts is not STAR
    from_uri, to_uri = sender.uri, recipient.uri
    return (
        request.method, uri.user, uri.host, uri.port, request.via.branch, request.call_id, cseq.number, cseq.method,
        from_uri.user, from_uri.host, from_uri.port, sender.tag, to_uri.user, to_uri.host, to_uri.port, recipient.tag,
        request.expires_s,
        [(contact.uri.user, contact.uri.host, contact.uri.port, contact.instance) for contact in contacts],
        request.body,
    )  # fmt: skip
