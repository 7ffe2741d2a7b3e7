"""RFC 4475 section 3.1.2: messages that are invalid, each in a way of its own.

What is malformed is refused: 400 to a request, silence to a response. Where the RFC allows to be liberal, a comment
says why we are or are not: liberal where nobody can be misled, strict where two elements on the way could read the same
octets in two ways.
"""

import pytest

from msilo_core.config import Config
from msilo_core.errors import ParseError, Unsupported
from msilo_core.fields import CSeq, parse_date, parse_max_forwards, parse_name_addr
from msilo_core.framing import Malformed, frame_datagram
from msilo_core.limits import Limits
from msilo_core.message import Request, Response, parse_message
from tests.core.wire import framed, request
from tests.core.world import ALICE, World, status_of, tcp
from tests.rfc.archive import messages
from tests.rfc.torture import ALLOWED, answered, answered_datagram, bound, dropped, exchanged, kept, malformed, of_list


def test_badinv01() -> None:
    """3.1.2.1. Extraneous Header Field Separators.

    The Via header field of this request contains additional semicolons and commas without parameters or values.  The
    Contact header field contains additional semicolons without parameters.  This message is syntactically invalid.

    An element receiving this request should respond with a 400 Bad Request error.
    """
    data = messages(4475)["badinv01"]
    message = malformed(data).message

    assert isinstance(message, Request)
    assert message.get("via") == "SIP/2.0/UDP 192.0.2.15;;,;,,"
    with pytest.raises(ParseError):
        _ = message.contacts

    with pytest.raises(ParseError):
        _ = message.via
    # Who sent it can be read. The answer has the same Via (RFC 3261 section 8.2.6.2), and nothing is added to it.
    world = World()
    (refusal,) = world.datagram(data)
    assert refusal.startswith(b"SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/UDP 192.0.2.15;;,;,,\r\n")
    assert world.sent[-1].flow.remote == (ALICE[0], 5060)
    dropped(data.replace(b"192.0.2.15;;,;,,", b";;,;,,"))
    # The Contact alone does not matter to whom it is not for.
    answered(data.replace(b";;,;,,", b";branch=z9hG4bKinv01"), "405 Method Not Allowed")


def test_clerr() -> None:
    """3.1.2.2. Content Length Larger Than Message.

    This is a request message with a Content Length that is larger than the actual length of the body.

    When sent over UDP (as this message ostensibly was), the receiving element should respond with a 400 Bad Request
    error.  If this message arrived over a stream-based transport, such as TCP, there's not much the receiving party
    could do but wait for more data on the stream and close the connection if none is forthcoming within a reasonable
    period of time.
    """
    data = messages(4475)["clerr"]
    item = frame_datagram(data)
    assert isinstance(item, Malformed)
    with pytest.raises(ParseError):
        parse_message(data)
    answered_datagram(data, "400 Bad Request")

    assert framed(data) == []
    world = World()
    assert world.stream(data, tcp(ALICE)) == []
    assert world.pass_time(Limits().stream_message_ms - 1) == []
    assert world.closed == []
    assert world.pass_time(1) == []
    assert world.closed == [tcp(ALICE)]


def test_ncl() -> None:
    """3.1.2.3. Negative Content-Length.

    This request has a negative value for Content-Length.

    An element receiving this message should respond with an error.  This request appeared over UDP, so the remainder of
    the datagram can simply be discarded.  If a request like this arrives over TCP, the framing error is not
    recoverable, and the connection should be closed.  The same behavior is appropriate for messages that arrive without
    a numeric value in the Content-Length header field, such as the following:

       Content-Length: five

    Implementors should take extra precautions if the technique they choose for converting this ascii field into an
    integral form can return a negative value.  In particular, the result must not be used as a counter or array index.
    """
    data = messages(4475)["ncl"]
    for octets in (data, data.replace(b"Content-Length: -999", b"Content-Length: five")):
        message = malformed(octets, fatal=True).message
        assert isinstance(message, Request)
        assert message.max_forwards == 254
        assert message.cseq == CSeq(0, "INVITE")
        with pytest.raises(ParseError):
            _ = message.content_length
        answered(octets, "400 Bad Request", closes=True)


def test_scalar02() -> None:
    """3.1.2.4. Request Scalar Fields with Overlarge Values.

    This request contains several scalar header field values outside their legal range.

       o  The CSeq sequence number is >2**32-1.

       o  The Max-Forwards value is >255.

       o  The Expires value is >2**32-1.

       o  The Contact expires parameter value is >2**32-1.

    An element receiving this request should respond with a 400 Bad Request due to the CSeq error.  If only the
    Max-Forwards field were in error, the element could choose to process the request as if the field were absent.  If
    only the expiry values were in error, the element could treat them as if they contained the default values for
    expiration (3600 in this case).

    Other scalar request fields that may contain aberrant values include, but are not limited to, the Contact q value,
    the Timestamp value, and the Via ttl parameter.
    """
    data = messages(4475)["scalar02"]
    message = malformed(data).message
    assert isinstance(message, Request)
    with pytest.raises(ParseError):
        _ = message.cseq
    assert message.get("max-forwards") == "300"
    assert message.get("expires") == "1" + "0" * 100
    answered(data, "400 Bad Request")

    # Strict: a hop that reads 300 as 44 and one that reads it as nothing must not meet, for it is what ends a loop.
    data = data.replace(b"36893488147419103232", b"368934881")
    with pytest.raises(ParseError):
        parse_max_forwards("300")
    answered(data, "400 Bad Request")

    # Liberal: who wants it longer than anybody can say gets the longest that there is.
    data = data.replace(b"Max-Forwards: 300", b"Max-Forwards: 255")
    assert request(data).expires_s == 2**32 - 1
    assert bound(data) == [f"<sip:user@host129.example.com>;expires={Config().expires_max_s}"]


def test_scalarlg() -> None:
    """3.1.2.5. Response Scalar Fields with Overlarge Values.

    This response contains several scalar header field values outside their legal range.

    o  The CSeq sequence number is >2**32-1.

    o  The Retry-After field is unreasonably large (note that RFC 3261 does not define a legal range for this field).

    o  The Warning field has a warning-value with more than 3 digits.

    An element receiving this response will simply discard it.
    """
    data = messages(4475)["scalarlg"]
    message = malformed(data).message

    assert isinstance(message, Response)
    assert (message.status, message.reason) == (503, "Service Unavailable")
    with pytest.raises(ParseError):
        _ = message.cseq
    assert message.get("retry-after") == "949302838503028349304023988"
    assert message.get("warning") == '1812 overture "In Progress"'
    assert message.via.received == "192.0.2.129"
    dropped(data)


def test_quotbal() -> None:
    """3.1.2.6. Unterminated Quoted String in Display Name.

    This is a request with an unterminated quote in the display name of the To field.  An element receiving this request
    should return a 400 Bad Request error.

    An element could attempt to infer a terminating quote and accept the message.  Such an element needs to take care
    that it makes a reasonable inference when it encounters

       To: "Mr J. User <sip:j.user@example.com> <sip:realj@example.net>
    """
    data = messages(4475)["quotbal"]
    # Strict: a quote that somebody else infers elsewhere makes another recipient, as in the second case.
    for octets in (
        data,
        data.replace(b"<sip:j.user@example.com>", b"<sip:j.user@example.com> <sip:realj@example.net>"),
    ):
        message = malformed(octets).message
        assert isinstance(message, Request)
        assert message.from_.tag == "93334"
        with pytest.raises(ParseError):
            _ = message.to
        answered(octets, "400 Bad Request")


def test_ltgtruri() -> None:
    """3.1.2.7. <> Enclosing Request-URI.

    This INVITE request is invalid because the Request-URI has been enclosed within in "<>".

    It is reasonable always to reject a request with this error with a 400 Bad Request.  Elements attempting to be
    liberal with what they accept may choose to ignore the brackets.  If the element forwards the request, it must not
    include the brackets in the messages it sends.
    """
    data = messages(4475)["ltgtruri"]
    # Strict: the Request-URI says whose message it is, and all elements on the way must read the same.
    message = malformed(data).message
    assert isinstance(message, Request)
    assert message.request_uri == "<sip:user@example.com>"
    with pytest.raises(ParseError):
        _ = message.uri
    assert message.via.branch == ""
    answered(data, "400 Bad Request")


def test_lwsruri() -> None:
    """3.1.2.8. Malformed SIP Request-URI (embedded LWS).

    This INVITE has illegal LWS within the Request-URI.

    An element receiving this request should respond with a 400 Bad Request.

    An element could attempt to ignore the embedded LWS for those schemes (like SIP) where doing so would not introduce
    ambiguity.
    """
    data = messages(4475)["lwsruri"]
    # A stream ends with a start-line that is none: whoever wrote it may not have meant it to be one.
    message = malformed(data, fatal=True).message
    assert isinstance(message, Request)
    assert message.request_uri == "sip:user@example.com; lr"
    assert message.to.tag == "3xfe-9921883-z9f"
    assert message.cseq == CSeq(2130706432, "INVITE")
    answered(data, "400 Bad Request", closes=True)


def test_lwsstart() -> None:
    """3.1.2.9. Multiple SP Separating Request-Line Elements.

    This INVITE has illegal multiple SP characters between elements of the start line.

    It is acceptable to reject this request as malformed.  An element that is liberal in what it accepts may ignore
    these extra SP characters when processing the request.  If the element forwards the request, it must not include
    these extra SP characters in the messages it sends.
    """
    data = messages(4475)["lwsstart"]
    # Strict, as with ltgtruri, and the stream ends as with lwsruri.
    message = malformed(data, fatal=True).message
    assert isinstance(message, Request)
    assert message.head.start_line == "INVITE  sip:user@example.com  SIP/2.0"
    answered(data, "400 Bad Request", closes=True)


def test_trws() -> None:
    """3.1.2.10. SP Characters at End of Request-Line.

    This OPTIONS request contains SP characters between the SIP-Version field and the CRLF terminating the Request-Line.

    It is acceptable to reject this request as malformed.  An element that is liberal in what it accepts may ignore
    these extra SP characters when processing the request.  If the element forwards the request, it must not include
    these extra SP characters in the messages it sends.
    """
    data = messages(4475)["trws"]
    # Strict, as with lwsstart.
    message = malformed(data, fatal=True).message
    assert isinstance(message, Request)
    assert message.head.start_line == "OPTIONS sip:remote-target@example.com SIP/2.0  "
    answered(data, "400 Bad Request", closes=True)


def test_escruri() -> None:
    """3.1.2.11. Escaped Headers in SIP Request-URI.

    This INVITE is malformed, as the SIP Request-URI contains escaped headers.

    It is acceptable for an element to reject this request with a 400 Bad Request.  An element could choose to be
    liberal in what it accepts and ignore the escaped headers.  If the element is a proxy, the escaped headers must not
    appear in the Request-URI of the forwarded request (and most certainly must not be translated into the actual header
    of the forwarded request).
    """
    data = messages(4475)["escruri"]
    # Strict: who puts a Route there means to send it by a way of his own.
    message = malformed(data).message
    assert isinstance(message, Request)
    assert message.uri.headers == "?Route=%3Csip:example.com%3E"
    assert message.routes == ()
    answered(data, "400 Bad Request")
    answered(exchanged(data), "400 Bad Request")


def test_baddate() -> None:
    """3.1.2.12. Invalid Time Zone in Date Header Field.

    This INVITE is invalid, as it contains a non-GMT time zone in the SIP Date header field.

    It is acceptable to reject this request as malformed (though an element shouldn't do that unless the contents of the
    Date header field were actually important to its processing).  An element wishing to be liberal in what it accepts
    could ignore this value altogether if it wasn't going to use the Date header field anyway.  Otherwise, it could
    attempt to interpret this date and adjust it to GMT.

    RFC 3261 explicitly defines the only acceptable time zone designation as "GMT".  "UT", while synonymous with GMT per
    [RFC2822], is not valid.  "UTC" and "UCT" are also invalid.
    """
    data = messages(4475)["baddate"]
    message = request(data)
    for zone in ("EST", "UT", "UTC", "UCT"):
        with pytest.raises(ParseError):
            parse_date((message.get("date") or "").replace("EST", zone))
    assert parse_date((message.get("date") or "").replace("EST", "GMT")) == 1_262_361_600

    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    # Liberal: a Date is for the reader. What its sender wrote is kept, and shown to whom it was written for.
    row = kept(exchanged(data), "sip:user@example.com")
    assert row.date_hdr == "Fri, 01 Jan 2010 16:00:00 EST"


def test_regbadct() -> None:
    """3.1.2.13. Failure to Enclose name-addr URI in <>.

    This REGISTER request is malformed.  The SIP URI contained in the Contact Header field has an escaped header, so the
    field must be in name-addr form (which implies that the URI must be enclosed in <>).

    It is reasonable for an element receiving this request to respond with a 400 Bad Request.  An element choosing to be
    liberal in what it accepts could infer the angle brackets since there is no ambiguity in this example.  In general,
    that won't be possible.
    """
    data = messages(4475)["regbadct"]
    message = request(data)
    # Strict: a binding to an address that was not meant loses messages.
    with pytest.raises(ParseError):
        _ = message.contacts
    answered(data, "400 Bad Request")


def test_badaspec() -> None:
    """3.1.2.14. Spaces within addr-spec.

    This request is malformed, since the addr-spec in the To header field contains spaces.  Parsers receiving this
    request must not break.  It is reasonable to reject this request with a 400 Bad Request response.  Elements
    attempting to be liberal may ignore the spaces.
    """
    data = messages(4475)["badaspec"]
    # Strict: such a To would go into the inbox and on to the phone octet for octet; the phone may refuse it, and the
    # sender cannot be told any more.
    message = malformed(data).message
    assert isinstance(message, Request)
    assert (message.from_.display_name, message.from_.tag) == ("Bell, Alexander", "433423")
    with pytest.raises(ParseError):
        _ = message.to
    assert message.via.port == 5060
    answered(data, "400 Bad Request")


def test_baddn() -> None:
    """3.1.2.15. Non-token Characters in Display Name.

    This OPTIONS request is malformed, since the display names in the To and From header fields contain non-token
    characters but are unquoted.

    It is reasonable always to reject this kind of error with a 400 Bad Request response.

    An element may attempt to be liberal in what it receives and infer the missing quotes.  If this element were a
    proxy, it must not propagate the error into the request it forwards.  As a consequence, if the fields are covered by
    a signature, there's not much point in trying to be liberal - the message should simply be rejected.
    """
    data = messages(4475)["baddn"]
    # The file in the archive has lost its empty line. Nobody knows whether the head ends there; nobody is answered.
    assert not data.endswith(b"\r\n\r\n")
    item = frame_datagram(data)
    assert isinstance(item, Malformed)
    assert item.message is None
    assert framed(data) == []
    assert World().datagram(data) == []

    # Strict, as with badaspec.
    data += b"\r\n"
    message = malformed(data).message
    assert isinstance(message, Request)
    for value in (message.get("from") or "", message.get("to") or ""):
        with pytest.raises(ParseError):
            parse_name_addr(value)
    answered(data, "400 Bad Request")


def test_badvers() -> None:
    """3.1.2.16. Unknown Protocol Version.

    To an element implementing [RFC3261], this request is malformed due to its high version number.

    The element should respond to the request with a 505 Version Not Supported error.
    """
    data = messages(4475)["badvers"]
    item = malformed(data, Unsupported)
    assert item.error.status_hint == 505
    assert isinstance(item.message, Request)
    assert item.message.version == "SIP/7.0"
    assert item.message.from_.display_name == "A. Bell"
    answered(data, "505 Version Not Supported")


def test_mismatch01() -> None:
    """3.1.2.17. Start Line and CSeq Method Mismatch.

    This request has mismatching values for the method in the start line and the CSeq header field.  Any element
    receiving this request will respond with a 400 Bad Request.
    """
    data = messages(4475)["mismatch01"]
    message = malformed(data).message
    assert isinstance(message, Request)
    assert (message.method, message.cseq) == ("OPTIONS", CSeq(8, "INVITE"))
    answered(data, "400 Bad Request")


def test_mismatch02() -> None:
    """3.1.2.18. Unknown Method with CSeq Method Mismatch.

    This message has an unknown method in the start line, and a CSeq method tag that does not match.

    Any element receiving this response should respond with a 501 Not Implemented.  A 400 Bad Request is also
    acceptable, but choosing a 501 (particularly at proxies) has better future-proof characteristics.
    """
    data = messages(4475)["mismatch02"]
    message = malformed(data).message
    assert isinstance(message, Request)
    assert (message.method, message.cseq) == ("NEWMETHOD", CSeq(8, "INVITE"))
    # Strict: that CSeq names the method holds for methods to come too (RFC 3261 section 8.1.1.5), and what is malformed
    # is told before what is not served. 501 is for what a sender may leave as it is and try elsewhere.
    answered(data, "400 Bad Request")
    matching = data.replace(b"CSeq: 8 INVITE", b"CSeq: 8 NEWMETHOD")
    assert set(of_list(answered(matching, "501 Not Implemented"), "allow")) == ALLOWED


def test_bigcode() -> None:
    """3.1.2.19. Overlarge Response Code.

    This response has a response code larger than 699.  An element receiving this response should simply drop it.
    """
    data = messages(4475)["bigcode"]
    message = malformed(data, fatal=True).message
    assert isinstance(message, Response)
    assert message.head.start_line == "SIP/2.0 4294967301 better not break the receiver"
    # 2**32 + 5: a counter of 32 bits would read a 5.
    assert message.status == 0
    assert message.cseq == CSeq(353494, "INVITE")
    dropped(data, closes=True)
    # A code of three digits ends a stream no less.
    dropped(data.replace(b"4294967301", b"700"), closes=True)


def test_a_message_behind_an_invalid_one_is_heard() -> None:
    """On a stream, what is malformed but framed costs nothing but itself."""
    archive = messages(4475)
    names = ("scalar02", "quotbal", "ltgtruri", "escruri", "badaspec", "badvers", "mismatch01")
    world = World()
    answers = world.stream(b"".join(archive[name] for name in names), tcp(ALICE))
    assert [status_of(answer) for answer in answers] == [400, 400, 400, 400, 400, 505, 400]
    assert world.closed == []
