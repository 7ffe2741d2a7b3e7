"""RFC 5118: torture messages for IPv6.

The archive's files end their lines with LF alone, two have lost their empty line, and three Content-Lengths are none of
CRLF. A message of SIP has CRLF (RFC 3261 section 7), so what is sent here is what the RFC prints: each line ended by
CRLF, an empty line, and the length of the body that is there.
"""

import re

import pytest

from msilo_core.config import Config
from msilo_core.errors import ParseError
from msilo_core.fields import STAR, Contact, CSeq
from msilo_core.framing import Malformed, frame_datagram
from msilo_core.message import Request, parse_message
from msilo_core.uri import parse_uri
from tests.core.wire import framed, request
from tests.core.world import World, header
from tests.rfc.archive import covered_names, messages, printed_names
from tests.rfc.torture import ALLOWED, answered, answered_datagram, bound, exchanged, kept, malformed, of_list


def printed(name: str) -> bytes:
    """Return a message as the RFC prints it, with the line ends of SIP."""
    head, _, body = messages(5118)[name].replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    return head.removesuffix(b"\r\n") + b"\r\n\r\n" + body


def counted(data: bytes) -> bytes:
    """Return a message with the Content-Length of its body."""
    head, end, body = data.partition(b"\r\n\r\n")
    return re.sub(rb"(?m)^Content-Length: [0-9]+", b"Content-Length: %d" % len(body), head) + end + body


def contact_of(message: Request) -> Contact:
    contacts = message.contacts
    assert contacts is not STAR
    (contact,) = contacts
    return contact


def test_ipv6_good() -> None:
    """4.1. Valid SIP Message with an IPv6 Reference.

    The request below is well-formatted according to the grammar in [RFC3261].  An IPv6 reference appears in the
    Request-URI (R-URI), Via header field, and Contact header field.
    """
    data = printed("ipv6-good")
    message = request(data)
    assert message.uri == parse_uri("sip:[2001:db8::10]")
    assert (message.uri.user, message.uri.host, message.uri.port) == (None, "[2001:db8::10]", None)
    assert (message.via.host, message.via.port, message.via.branch) == ("[2001:db8::9:1]", None, "z9hG4bKas3-111")
    assert message.call_id == "SSG9559905523997077@hlau_4100"
    contact = contact_of(message)
    assert (contact.uri.user, contact.uri.host) == ("caller", "[2001:db8::1]")
    assert bound(data) == ["<sip:caller@[2001:db8::1]>;expires=3600"]


def test_ipv6_bad() -> None:
    """4.2. Invalid SIP Message with an IPv6 Reference.

    The request below is not well-formatted according to the grammar in [RFC3261].  The IPv6 reference in the R-URI does
    not contain the mandated delimiters for an IPv6 reference ("[" and "]").

    A SIP implementation receiving this request should respond with a 400 Bad Request error.
    """
    data = printed("ipv6-bad")
    message = malformed(data).message
    assert isinstance(message, Request)
    assert message.request_uri == "sip:2001:db8::10"
    with pytest.raises(ParseError):
        _ = message.uri
    answered(data, "400 Bad Request")


def test_port_ambiguous() -> None:
    """4.3. Port Ambiguous in a SIP URI.

    IPv6 uses the colon to delimit octets.  This may lead to ambiguity if the port number on which to contact a SIP
    server is inadvertently conflated with the IPv6 reference.  Consider the REGISTER request below.  The sender of the
    request intended to specify a port number (5070) to contact a server, but inadvertently, inserted the port number
    inside the closing "]" of the IPv6 reference.  Unfortunately, since the IPv6 address in the R-URI is compressed, the
    intended port number becomes the last octet of the reference.

    From a parsing perspective, the request below is well-formed.  However, from a semantic point of view, it will not
    yield the desired result.  Implementations must ensure that when a raw IPv6 address appears in a SIP URI, then a
    port number, if required, appears outside the closing "]" delimiting the IPv6 reference.  Raw IPv6 addresses can
    occur in many header fields, including the Contact, Route, and Record-Route header fields.  They also can appear as
    the result of the "sent-by" production rule of the Via header field.  Implementers are urged to consult the ABNF in
    [RFC3261] for a complete list of fields where a SIP URI can appear.
    """
    data = printed("port-ambiguous")
    message = request(data)
    assert (message.uri.host, message.uri.port) == ("[2001:db8::10:5070]", None)
    assert bound(data) == ["<sip:caller@[2001:db8::1]>;expires=3600"]


def test_port_unambiguous() -> None:
    """4.4. Port Unambiguous in a SIP URI.

    In contrast to the example in Section 4.3, the following REGISTER request leaves no ambiguity whatsoever on where
    the IPv6 address ends and the port number begins.  This REGISTER request is well formatted per the grammar in
    [RFC3261].
    """
    data = printed("port-unambiguous")
    message = request(data)
    assert (message.uri.host, message.uri.port) == ("[2001:db8::10]", 5070)
    assert bound(data) == ["<sip:caller@[2001:db8::1]>;expires=3600"]


def test_via_received_param_with_delim() -> None:
    """4.5. IPv6 Reference Delimiters in Via Header.

    IPv6 references can also appear in Via header fields; more specifically in the "sent-by" production rule and the
    "via-received" production rule.  In the "sent-by" production rule, the sequence of octets comprising the IPv6
    address is defined to appear as an "IPv6reference" non-terminal, thereby mandating the "[" and "]" delimiters.
    However, this is not the case for the "via-received" non-terminal.  The "via-received" production rule is defined as
    follows:

       via-received = "received" EQUAL (IPv4address / IPv6address)

    The "IPv6address" non-terminal is defined not to include the delimiting "[" and "]".  This has led to the situation
    documented during the 18th SIP Interoperability Event [Email-SIPit]:

       Those testing IPv6 made different assumptions about enclosing literal v6 addresses in Vias in [].  By the end of
       the event, most implementations were accepting either.  Its about 50/50 on what gets sent.

    While it would be beneficial if the same non-terminal ("IPv6reference") was used for both the "sent-by" and
    "via-received" production rules, there has not been a consensus in the working group to that effect.  Thus, the best
    that can be suggested is that implementations must follow the Robustness Principle [RFC1122] and be liberal in
    accepting a "received" parameter with or without the delimiting "[" and "]" tokens.  When sending a request,
    implementations must not put the delimiting "[" and "]" tokens.

    The two test cases below are designed to stress this behavior.  A SIP implementation receiving either of these
    messages must parse them successfully.

    The request below contains an IPv6 address in the Via "received" parameter.  The IPv6 address is delimited by "["
    and "]".  Even though this is not a valid request based on a strict interpretation of the grammar in [RFC3261],
    robust implementations must nonetheless be able to parse the topmost Via header field and continue processing the
    request.
    """
    data = printed("via-received-param-with-delim")
    message = request(data)
    assert message.method == "BYE"
    assert (message.via.host, message.via.received) == ("[2001:db8::9:1]", "[2001:db8::9:255]")
    assert message.via.branch == "z9hG4bKas3-111"
    assert (message.to.tag, message.from_.tag) == ("bd76ya", "81x2")

    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    # What we put there has no brackets.
    world = World(Config(trusted=("2001:db8::/32",)))
    (octets,) = world.datagram(data, ("2001:db8::9:255", 5060))
    assert parse_message(octets).via.received == "2001:db8::9:255"
    assert header(octets, "Via").count("received=") == 1


def test_via_received_param_no_delim() -> None:
    """4.5. IPv6 Reference Delimiters in Via Header.

    The OPTIONS request below contains an IPv6 address in the Via "received" parameter without the adorning "[" and "]".
    This request is valid according to the grammar in [RFC3261].
    """
    data = printed("via-received-param-no-delim")
    message = request(data)
    assert (message.via.host, message.via.received) == ("[2001:db8::9:1]", "2001:db8::9:255")
    assert message.via.branch == "z9hG4bKas3"
    assert contact_of(message).uri.host == "[2001:db8::9:1]"
    assert set(of_list(answered(data, "200 OK"), "allow")) == ALLOWED


def test_ipv6_in_sdp() -> None:
    """4.6. SIP Request with IPv6 Addresses in Session Description Protocol (SDP) Body.

    This request below is valid and well-formed according to the grammar in [RFC3261].  Note that the IPv6 addresses in
    the SDP [RFC4566] body do not have the delimiting "[" and "]".
    """
    data = printed("ipv6-in-sdp")
    # As it is printed, it says 268 and has 251: "If the transport packet ends before the end of the message body, this
    # is considered an error. If the message is a response, it MUST be discarded. If the message is a request, the
    # element SHOULD generate a 400 (Bad Request) response" (RFC 3261 section 18.3).
    answered_datagram(data, "400 Bad Request")
    assert framed(data) == []

    data = counted(data)
    message = request(data)
    assert (message.uri.user, message.uri.host) == ("user", "[2001:db8::10]")
    assert message.to.uri.equivalent(message.uri)
    assert message.via.host == contact_of(message).uri.host == "[2001:db8::20]"
    assert message.cseq == CSeq(8612, "INVITE")
    assert b"\r\nc=IN IP6 2001:db8::20\r\n" in message.body

    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    row = kept(exchanged(data), "sip:user@[2001:db8::10]")
    assert row.owner.domain == "[2001:db8::10]"
    assert 'Contact: "Caller" <sip:caller@[2001:db8::20]>\r\n' in row.extra_hdrs


def test_mult_ip_in_header() -> None:
    """4.7. Multiple IP Addresses in SIP Headers.

    The request below is valid and well-formed according to the grammar in [RFC3261].  The Via list contains a mix of
    IPv4 addresses and IPv6 references.
    """
    data = printed("mult-ip-in-header")
    message = request(data)
    vias = message.vias
    assert [(via.transport, via.host, via.port, via.branch, via.received) for via in vias] == [
        ("UDP", "[2001:db8::9:1]", 6050, "z9hG4bKas3-111", None),
        ("UDP", "192.0.2.1", None, "z9hG4bKjhja8781hjuaij65144", None),
        ("TCP", "[2001:db8::9:255]", None, "z9hG4bK451jj", "192.0.2.200"),
    ]
    refusal = answered(data, "405 Method Not Allowed")
    assert set(of_list(refusal, "allow")) == ALLOWED
    assert refusal.vias[1:] == message.vias[1:]


def test_mult_ip_in_sdp() -> None:
    """4.8. Multiple IP Addresses in SDP.

    The request below is valid and well-formed according to the grammar in [RFC3261].  The SDP contains multiple media
    lines, and each media line is identified by a different network connection address.
    """
    data = counted(printed("mult-ip-in-sdp"))
    message = request(data)
    assert message.content_type == "application/sdp"
    assert [line for line in message.body.split(b"\r\n") if line.startswith(b"c=")] == [
        b"c=IN IP4 192.0.2.1",
        b"c=IN IP6 2001:db8::1",
    ]
    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    kept(exchanged(data), "sip:user@[2001:db8::10]")


def test_ipv4_mapped_ipv6() -> None:
    """4.9. IPv4-Mapped IPv6 Addresses.

    An IPv4-mapped IPv6 address is usually represented with the last 32 bits appearing as a dotted-decimal IPv4 address;
    e.g., ::ffff:192.0.2.1.  A SIP implementation receiving a message that contains such a mapped address must be
    prepared to parse it successfully.  An IPv4-mapped IPv6 address may appear in signaling, or in the SDP carried by
    the signaling message, or in both.  If a port number is part of the URI represented by the IPv4-mapped IPv6 address,
    then it must appear outside the delimiting "]" (cf. Section 4.4).

    The message below is well-formed according to the grammar in [RFC3261].  The Via list contains two Via headers, both
    of which include an IPv4-mapped IPv6 address.  An IPv4-mapped IPv6 address also appears in the Contact header and
    the SDP.  The topmost Via header includes a port number that is appropriately delimited by "]".
    """
    data = counted(printed("ipv4-mapped-ipv6"))
    message = request(data)
    assert [(via.host, via.port, via.branch) for via in message.vias] == [
        ("[::ffff:192.0.2.10]", 19823, "z9hG4bKbh19"),
        ("[::ffff:192.0.2.2]", None, "z9hG4bKas3-111"),
    ]
    assert contact_of(message).uri == parse_uri("sip:ted@[::ffff:192.0.2.2]")
    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    kept(exchanged(data), "sip:user@example.com")
    mapped = exchanged(data).replace(b"sip:user@example.com", b"sip:user@[::ffff:192.0.2.10]:5060", 1)
    assert kept(mapped, "sip:user@[::FFFF:c000:20a]").owner.domain == "[::ffff:192.0.2.10]"


def test_ipv6_bug_abnf_3_colons() -> None:
    """4.10. IPv6 Reference Bug in RFC 3261 ABNF.

    It is possible to follow the IPv6reference production rule of RFC 3261 ABNF -- the relevant portion of which is
    reproduced at the top of Section 4 -- and arrive at the following construct:

    [2001:db8:::192.0.2.1]

    Note the extra colon before the IPv4 address in the above construct.  The correct construct, of course, is:

    [2001:db8::192.0.2.1]

    The ABNF pertaining to IPv6 references in RFC 3261 was derived from RFC 2373 [RFC2373], which has been obsoleted by
    RFC 4291 [RFC4291].  The specific behavior of inserting an extra colon was inherited from RFC 2373, and has been
    remedied in RFC 4291.  However, following the Robustness Principle [RFC1122], an implementation must tolerate both
    of the above constructs.

    The message below includes an extra colon in the IPv6 reference.  A SIP implementation receiving such a message may
    exhibit robustness by successfully parsing the IPv6 reference (it can choose to ignore the extra colon when parsing
    the IPv6 reference.  If the SIP implementation is acting in the role of a proxy, it may additionally serialize the
    message without the extra colon to aid the next downstream server).
    """
    data = printed("ipv6-bug-abnf-3-colons")
    message = request(data)
    assert message.uri.host == message.to.uri.host == "[2001:db8:::192.0.2.1]"
    assert message.uri.equivalent(parse_uri("sip:user@[2001:db8::192.0.2.1]"))
    assert set(of_list(answered(data, "200 OK"), "allow")) == ALLOWED

    # Somebody with such an address has one inbox, however it is written. What its sender wrote goes on as it is, but
    # for the Request-URI, which is the phone's.
    row = kept(exchanged(data), "sip:user@[2001:db8::192.0.2.1]")
    assert row.owner.domain == "[2001:db8::c000:201]"
    assert row.dst_addr == "sip:user@[2001:db8:::192.0.2.1]"


def test_ipv6_correct_abnf_2_colons() -> None:
    """4.10. IPv6 Reference Bug in RFC 3261 ABNF.

    The next message has the correct syntax for the IPv6 reference in the R-URI.
    """
    data = printed("ipv6-correct-abnf-2-colons")
    message = request(data)
    assert message.uri.host == message.to.uri.host == "[2001:db8::192.0.2.1]"
    assert set(of_list(answered(data, "200 OK"), "allow")) == ALLOWED
    row = kept(exchanged(data), "sip:user@[2001:db8::c000:201]")
    assert row.owner.domain == "[2001:db8::c000:201]"

    # One is a repeat of the other: what tells that (RFC 3261 section 17.2.3) does not ask for the Request-URI.
    world = World()
    accepted = world.datagram(exchanged(data))
    assert world.datagram(exchanged(printed("ipv6-bug-abnf-3-colons"))) == accepted
    assert len(world.waiting("sip:user@[2001:db8::192.0.2.1]")) == 1


def test_octets_of_the_archive_are_no_messages() -> None:
    for data in messages(5118).values():
        assert b"\r" not in data
        item = frame_datagram(data)
        assert isinstance(item, Malformed)
        assert (type(item.error), item.message) == (ParseError, None)
        assert framed(data) == []
        assert World().datagram(data) == []


def test_every_message_of_the_catalogue_has_a_test() -> None:
    names = messages(5118).keys()
    assert len(names) == 12
    assert names == set(printed_names(5118))
    assert {name.replace("-", "_") for name in names} <= covered_names(5118)
