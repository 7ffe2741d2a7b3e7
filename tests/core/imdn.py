"""Messages that ask for IMDNs (RFC 5438), and what an IMDN says."""

import xml.etree.ElementTree as ET

from msilo_core.imdn import is_imdn
from tests.core.world import World, body_of, finished, header, message, status_of

__all__ = ["HEAD", "TEXT", "asking", "cpim", "document", "kept", "said", "typed"]

HEAD = (
    "From: Alice <im:alice@example.com>\nTo: Bob <im:bob@example.com>\nNS: imdn <urn:ietf:params:imdn>\n"
    "imdn.Message-ID: 34jk324j\nDateTime: 2006-04-04T12:16:49-05:00\n"
    "imdn.Disposition-Notification: processing, negative-delivery\n"
)
TEXT = "Content-type: text/plain\nContent-length: 12\n\nHello World"


def cpim(head: str = HEAD, content: str = TEXT) -> bytes:
    """Return a body that asks for IMDNs, written with plain line ends."""
    return f"{head}\n{content}".replace("\n", "\r\n").encode()


def asking(
    values: str = "processing, negative-delivery", *, number: int = 1, to: str = "bob", headers: str = ""
) -> bytes:
    """Return a MESSAGE from alice that asks for IMDNs; another `number`, another message and Message-ID."""
    head = HEAD.replace("processing, negative-delivery", values).replace("34jk324j", f"id{number}")
    return typed(cpim(head), number=number, to=to, headers=headers)


def typed(
    body: bytes, *, number: int = 1, to: str = "bob", headers: str = "", content_type: str = "message/cpim"
) -> bytes:
    """Return a MESSAGE with a body of a type."""
    data = message(body, number=number, to=to, headers=headers)
    return data.replace(b"Content-Type: text/plain", b"Content-Type: " + content_type.encode(), 1)


def document(body: bytes) -> dict[str, str]:
    """Return the texts of the elements in an IMDN, by their names and in their order."""
    namespace = "{urn:ietf:params:xml:ns:imdn}"
    root = ET.fromstring(body.split(b"\r\n\r\n", 2)[2])
    return {element.tag.removeprefix(namespace): (element.text or "").strip() for element in root.iter()}


def said(data: bytes) -> tuple[str, str]:
    """Return the Message-ID that a MESSAGE with an IMDN is about, and what it says; both empty for any other."""
    if status_of(data) or not is_imdn(header(data, "Content-Type"), body_of(data)):
        return "", ""
    elements = document(body_of(data))
    return elements["message-id"], [*elements][-1]


def kept(world: World, owner: str = "sip:alice@example.com") -> list[tuple[str, str]]:
    """Return what is said by the IMDNs that wait in an inbox."""
    rows = finished(world.store.list(owner=owner))
    found = [document(row.body) for row in rows if is_imdn(row.ctype, row.body)]
    return [(elements["message-id"], [*elements][-1]) for elements in found]
