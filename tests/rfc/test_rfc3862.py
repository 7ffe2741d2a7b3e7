"""RFC 3862 (CPIM): such bodies are carried octet for octet, and not looked into. RFC 3994: isComposing."""

import pytest

from tests.core.wire import crlf
from tests.rfc.torture import answered, kept

CPIM = (
    b"From: MR SANDERS <im:piglet@100akerwood.com>\r\nTo: Depressed Donkey <im:eeyore@100akerwood.com>\r\n"
    b"DateTime: 2000-12-13T13:40:00-08:00\r\nSubject: the weather will be fine today\r\n"
    b"Subject:;lang=fr beau temps prevu pour aujourd'hui\r\nNS: MyFeatures <mid:MessageFeatures@id.foo.com>\r\n"
    b"Require: MyFeatures.VitalMessageOption\r\n\r\n"
    b"Content-type: text/xml; charset=utf-8\r\nContent-ID: <1234567890@foo.com>\r\n\r\n<body>\nHere\0\xff</body>\r\n"
)
COMPOSING = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<isComposing xmlns="urn:ietf:params:xml:ns:im-iscomposing">\n'
    b"  <state>active</state><contenttype>text/plain</contenttype><refresh>90</refresh>\n</isComposing>\n"
)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("message/cpim", CPIM),
        ("Message/CPIM; charset=utf-8", CPIM.replace(b"\r\n", b"\n")),
        ('multipart/mixed;boundary="a, b"', b"--a, b\r\n\r\n" + CPIM + b"\r\n--a, b--\r\n"),
    ],
)
def test_body_is_stored_delivered_and_relayed_as_it_came(content_type: str, body: bytes) -> None:
    row = kept(typed(content_type, body), "sip:eeyore@example.com")
    assert (row.ctype, row.body) == (content_type, body)


def test_notice_of_typing_is_answered_and_not_kept() -> None:
    """It is true for seconds: "the refresh interval SHOULD be no shorter than 60 seconds" (RFC 3994 section 3.4)."""
    answered(typed("application/im-iscomposing+xml", COMPOSING), "200 OK")


def typed(content_type: str, body: bytes) -> bytes:
    """Return a MESSAGE with a body of a type."""
    head = crlf(f"""
        MESSAGE sip:eeyore@example.com SIP/2.0
        Via: SIP/2.0/TCP piglet.example.com;branch=z9hG4bKcpim
        Max-Forwards: 70
        From: <sip:piglet@example.com>;tag=49583
        To: <sip:eeyore@example.com>
        Call-ID: asd88asd77a@192.0.2.4
        CSeq: 1 MESSAGE
        Content-Type: {content_type}
        Content-Length: {len(body)}

        """)
    return head + body
