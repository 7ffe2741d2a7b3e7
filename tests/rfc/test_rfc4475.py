"""RFC 4475 sections 3.2 to 3.4: what transactions and applications make of odd messages; and that none was left out.

Section 3.1, the tests of the parser, is in ``test_rfc4475_valid.py`` and ``test_rfc4475_invalid.py``.
"""

import pytest

from msilo_core.errors import ParseError, PeerError, Unsupported
from msilo_core.fields import STAR, Contact, CSeq, parse_name_addr, parse_via
from msilo_core.framing import Malformed, frame_datagram
from msilo_core.message import Request, parse_message, tokenise
from tests.core.wire import framed, request, response
from tests.core.world import ALICE, BOB, World, answer, finished, header, register, status_of, tcp, udp
from tests.rfc.archive import covered_names, messages, printed_names
from tests.rfc.torture import (
    ALLOWED,
    answered,
    answered_datagram,
    bound,
    dropped,
    exchanged,
    kept,
    malformed,
    of_list,
)


def contact_of(message: Request) -> Contact:
    contacts = message.contacts
    assert contacts is not STAR
    (contact,) = contacts
    return contact


# -- 3.2. Transaction Layer Semantics ----------------------------------------------------------------------------------


def test_badbranch() -> None:
    """3.2.1. Missing Transaction Identifier.

    This request indicates support for RFC 3261-style transaction identifiers by providing the z9hG4bK prefix to the
    branch parameter, but it provides no identifier.  A parser must not break when receiving this message.  An element
    receiving this request could reject the request with a 400 Response (preferably statelessly, as other requests from
    the source are likely also to have a malformed branch parameter), or it could fall back to the RFC 2543-style
    transaction identifier.
    """
    data = messages(4475)["badbranch"]
    message = request(data)
    assert message.via.branch == "z9hG4bK"

    # Liberal: what RFC 2543 told repeats by tells them as well.
    assert set(of_list(answered(data, "200 OK"), "allow")) == ALLOWED
    data = exchanged(data)
    kept(data, "sip:user@example.com")
    world = World()
    accepted = world.datagram(data)
    assert world.datagram(data) == accepted
    assert len(world.waiting("sip:user@example.com")) == 1
    for other in (data.replace(b"Call-ID: bad", b"Call-ID: other"), data.replace(b"CSeq: 8", b"CSeq: 9")):
        assert [status_of(octets) for octets in world.datagram(other)] == [202]
    assert len(world.waiting("sip:user@example.com")) == 3


# -- 3.3. Application-Layer Semantics ----------------------------------------------------------------------------------


def test_insuf() -> None:
    """3.3.1. Missing Required Header Fields.

    This request contains no Call-ID, From, or To header fields.

    An element receiving this message must not break because of the missing information.  Ideally, it will respond with
    a 400 Bad Request error.
    """
    data = messages(4475)["insuf"]
    message = malformed(data).message
    assert isinstance(message, Request)
    for key in ("call_id", "from_", "to"):
        with pytest.raises(ParseError):
            getattr(message, key)
    assert message.cseq == CSeq(193942, "INVITE")
    assert message.via.branch == "z9hG4bKkdj.insuf"

    refusal = answered(data, "400 Bad Request")
    assert [refusal.get(key) for key in ("call-id", "from", "to")] == [None, None, None]


def test_unkscm() -> None:
    """3.3.2. Request-URI with Unknown Scheme.

    This OPTIONS contains an unknown URI scheme in the Request-URI.  A parser must accept this as a well-formed SIP
    request.

    An element receiving this request will reject it with a 416 Unsupported URI Scheme response.

    Some early implementations attempt to look at the contents of the To header field to determine how to route this
    kind of request.  That is an error.  Despite the fact that the To header field and the Request URI frequently look
    alike in simplistic first-hop messages, the To header field contains no routing information.
    """
    data = messages(4475)["unkscm"]
    item = malformed(data, Unsupported)
    assert item.error.status_hint == 416
    assert isinstance(item.message, Request)
    assert item.message.request_uri == "nobodyKnowsThisScheme:totallyopaquecontent"
    assert item.message.to.uri_text == "sip:user@example.com"

    answered(data, "416 Unsupported URI Scheme")
    world = World()
    assert [status_of(octets) for octets in world.datagram(exchanged(data))] == [416]
    assert finished(world.store.list()) == []


def test_novelsc() -> None:
    """3.3.3. Request-URI with Known but Atypical Scheme.

    This OPTIONS contains an Request-URI with an IANA-registered scheme that does not commonly appear in Request-URIs of
    SIP requests.  A parser must accept this as a well-formed SIP request.

    If an element will never accept this scheme as meaningful in a Request-URI, it is appropriate to treat it as unknown
    and return a 416 Unsupported URI Scheme response.  If the element might accept some URIs with this scheme, then a
    404 Not Found is appropriate for those URIs it doesn't accept.
    """
    data = messages(4475)["novelsc"]
    item = malformed(data, Unsupported)
    assert item.error.status_hint == 416
    assert isinstance(item.message, Request)
    assert item.message.request_uri == "soap.beep://192.0.2.103:3002"
    answered(data, "416 Unsupported URI Scheme")


def test_unksm2() -> None:
    """3.3.4. Unknown URI Schemes in Header Fields.

    This message contains registered schemes in the To, From, and Contact header fields of a request.  The message is
    syntactically valid.  Parsers must not fail when receiving this message.

    Proxies should treat this message as they would any other request for this URI.  A registrar would reject this
    request with a 400 Bad Request response, since the To: header field is required to contain a SIP or SIPS URI as an
    AOR.
    """
    data = messages(4475)["unksm2"]
    message = request(data)
    assert message.to.uri_text == "isbn:2983792873"
    assert (message.from_.uri_text, message.from_.tag) == ("http://www.example.com", "3234233")
    assert parse_name_addr(message.get("contact") or "").uri_text == "name:John_Smith"
    for part in (message.to, message.from_):
        with pytest.raises(ParseError):
            _ = part.uri
    with pytest.raises(ParseError):
        _ = message.contacts

    answered(data, "400 Bad Request")
    # To asks for it alone.
    answered(data.replace(b"<name:John_Smith>", b"<sip:john@192.0.2.21>"), "400 Bad Request")
    answered(exchanged(data, "OPTIONS"), "200 OK")
    message_for_user = exchanged(data).replace(b"sip:example.com", b"sip:user@example.com", 1)
    row = kept(message_for_user, "sip:user@example.com")
    assert (row.src_addr, row.dst_addr) == ("http://www.example.com", "isbn:2983792873")


def test_bext01() -> None:
    """3.3.5. Proxy-Require and Require.

    This request tests proper implementation of SIP's Proxy-Require and Require extension mechanisms.

    Any element receiving this request will respond with a 420 Bad Extension response, containing an Unsupported header
    field listing these features from either the Require or Proxy-Require header field, depending on the role in which
    the element is responding.
    """
    data = messages(4475)["bext01"]
    message = request(data)
    required = ["nothingSupportsThis", "nothingSupportsThisEither"]
    proxy_required = ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]
    assert of_list(message, "require") == required
    assert of_list(message, "proxy-require") == proxy_required
    assert message.via.transport == "TLS"

    # An OPTIONS and a REGISTER end here, and whoever they were on the way to is all in one.
    for octets in (data, exchanged(data, "REGISTER")):
        refusal = answered(octets, "420 Bad Extension")
        assert of_list(refusal, "unsupported") == required + proxy_required
    # A MESSAGE may go on to a phone, which then has to know what Require asks for; what is stored is answered by us.
    refusal = answered(exchanged(data), "420 Bad Extension")
    assert of_list(refusal, "unsupported") == proxy_required
    for_phone = exchanged(data).replace(b"Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis\r\n", b"")
    refusal = answered(for_phone, "420")
    assert of_list(refusal, "unsupported") == required
    present = World()
    present.datagram(register("user"), BOB)
    (relayed,) = present.datagram(for_phone)
    assert header(relayed, "Require") == ", ".join(required)


def test_invut() -> None:
    """3.3.6. Unknown Content-Type.

    This INVITE request contains a body of unknown type.  It is syntactically valid.  A parser must not fail when
    receiving it.

    A proxy receiving this request would process it just as it would any other INVITE.  An endpoint receiving this
    request would reject it with a 415 Unsupported Media Type error.
    """
    data = messages(4475)["invut"]
    message = request(data)
    assert message.content_type == "application/unknownformat"
    assert message.body == b'<audio>\r\n <pcmu port="443"/>\r\n</audio>\r\n'

    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    # A silo is no endpoint: what the phone can read the phone will say.
    row = kept(exchanged(data), "sip:user@example.com")
    assert (row.ctype, len(row.body)) == ("application/unknownformat", 40)


def test_regaut01() -> None:
    """3.3.7. Unknown Authorization Scheme.

    This REGISTER request contains an Authorization header field with an unknown scheme.  The request is well formed.  A
    parser must not fail when receiving it.

    A proxy will treat this request as it would any other REGISTER.  If it forwards the request, it will include this
    Authorization header field unmodified in the forwarded messages.

    A registrar that does not care about challenge-response authentication will simply ignore the Authorization header
    field, processing this registration as if the field were not present.  A registrar that does care about
    challenge-response authentication will reject this request with a 401, issuing a new challenge with a scheme it
    understands.

    Endpoints choosing not to act as registrars will simply reject the request.  A 405 Method Not Allowed is
    appropriate.
    """
    data = messages(4475)["regaut01"]
    message = request(data)
    assert message.get("authorization") == "NoOneKnowsThisScheme opaque-data=here"
    assert message.content_length == 0

    # Nobody is asked for credentials unless the server is told to: it is a fetch like any other.
    assert bound(data) == []


def test_multi01() -> None:
    """3.3.8. Multiple Values in Single Value Required Fields.

    The message contains a request with multiple Call-ID, To, From, Max-Forwards, and CSeq values.  An element receiving
    this request must not break.

    An element receiving this request would respond with a 400 Bad Request error.
    """
    data = messages(4475)["multi01"]
    message = malformed(data).message
    assert isinstance(message, Request)
    assert message.get_all("call-id") == ["multi01.98asdh@192.0.2.1", "multi01.98asdh@192.0.2.2"]
    assert message.get_all("cseq") == ["5 INVITE", "59 INVITE"]
    assert message.get_all("to") == ["sip:user@example.com", "sip:other@example.net"]
    assert [parse_name_addr(value).tag for value in message.get_all("from")] == ["3413415", "2923420123"]
    assert message.get_all("max-forwards") == ["70", "5"]
    answered(data, "400 Bad Request")

    # One of them alone is enough.
    repeated = (
        b"CSeq: 59 INVITE\r\n",
        b"Call-ID: multi01.98asdh@192.0.2.2\r\n",
        b"To: sip:other@example.net\r\n",
        b"From: sip:caller@example.net;tag=2923420123\r\n",
        b"Max-Forwards: 5\r\n",
    )
    for line in repeated:
        data = data.replace(line, b"")
    answered(data, "405 Method Not Allowed")
    for line in repeated:
        answered(data.replace(b"l: 154\r\n", b"l: 154\r\n" + line), "400 Bad Request")


def test_mcl01() -> None:
    """3.3.9. Multiple Content-Length Values.

    Multiple conflicting Content-Length header field values appear in this request.

    From a framing perspective, this situation is equivalent to an invalid Content-Length value (or no value at all).

    An element receiving this message should respond with an error.  This request appeared over UDP, so the remainder of
    the datagram can simply be discarded.  If a request like this arrives over TCP, the framing error is not
    recoverable, and the connection should be closed.
    """
    data = messages(4475)["mcl01"]
    message = malformed(data, fatal=True).message
    assert isinstance(message, Request)
    assert message.get_all("content-length") == ["13", "5"]
    with pytest.raises(ParseError):
        _ = message.content_length
    answered(data, "400 Bad Request", closes=True)


def test_bcast() -> None:
    """3.3.10. 200 OK Response with Broadcast Via Header Field Value.

    This message is a response with a 2nd Via header field value's sent-by containing 255.255.255.255.  The message is
    well formed; parsers must not fail when receiving it.

    Per [RFC3261], an endpoint receiving this message should simply discard it.

    If a proxy followed normal response processing rules blindly, it would forward this response to the broadcast
    address.  To protect against this as an avenue of attack, proxies should drop such responses.
    """
    data = messages(4475)["bcast"]
    message = response(data)
    assert (message.status, message.reason) == (200, "OK")
    assert [via.host for via in message.vias] == ["192.0.2.198", "255.255.255.255"]
    assert message.content_length == 154
    dropped(data)

    # Nor does a response to what we did send go to where a Via says: it goes to where the request came from.
    world = World()
    world.datagram(register("user"), BOB)
    invut = exchanged(messages(4475)["invut"])
    (relayed,) = world.datagram(invut.replace(b"somehost.example.com", b"255.255.255.255"))
    assert parse_message(relayed).vias[1].host == "255.255.255.255"
    (passed,) = world.datagram(answer(relayed), BOB)
    assert status_of(passed) == 200
    assert world.sent[-1].flow == udp((ALICE[0], 5060))


def test_zeromf() -> None:
    """3.3.11. Max-Forwards of Zero.

    This is a legal SIP request with the Max-Forwards header field value set to zero.

    A proxy should not forward the request and should respond 483 (Too Many Hops).  An endpoint should process the
    request as if the Max-Forwards field value were still positive.
    """
    data = messages(4475)["zeromf"]
    message = request(data)
    assert message.max_forwards == 0

    # An OPTIONS ends here, a MESSAGE may go on to a phone.
    assert set(of_list(answered(data, "200 OK"), "allow")) == ALLOWED
    answered(exchanged(data), "483 Too Many Hops")


def test_cparam01() -> None:
    """3.3.12. REGISTER with a Contact Header Parameter.

    This register request contains a contact where the 'unknownparam' parameter must be interpreted as a contact-param
    and not a url-param.

    This REGISTER should succeed.  The response must not include "unknownparam" as a url-parameter for this binding.
    Likewise, "unknownparam" must not appear as a url-parameter in any binding during subsequent fetches.

    Behavior is the same, of course, for any known contact-param parameter names.
    """
    data = messages(4475)["cparam01"]
    contact = contact_of(request(data))
    assert (contact.uri.user, contact.uri.host) == ("+19725552222", "gw1.example.net")
    assert (contact.uri.params, contact.params) == ("", ";unknownparam")
    assert bound(data) == ["<sip:+19725552222@gw1.example.net>;unknownparam;expires=3600"]

    known = data.replace(b";unknownparam", b";q=0.5;expires=600")
    assert bound(known) == ["<sip:+19725552222@gw1.example.net>;q=0.5;expires=600"]


def test_cparam02() -> None:
    """3.3.13. REGISTER with a url-parameter.

    This register request contains a contact where the URI has an unknown parameter.

    The register should succeed, and a subsequent retrieval of the registration must include "unknownparam" as a
    url-parameter.

    Behavior is the same, of course, for any known url-parameter names.
    """
    data = messages(4475)["cparam02"]
    contact = contact_of(request(data))
    assert contact.uri.param("unknownparam") == ""
    assert (contact.uri.params, contact.params) == (";unknownparam", "")
    assert bound(data) == ["<sip:+19725552222@gw1.example.net;unknownparam>;expires=3600"]

    known = data.replace(b";unknownparam", b";transport=udp;user=phone")
    assert bound(known) == ["<sip:+19725552222@gw1.example.net;transport=udp;user=phone>;expires=3600"]


def test_regescrt() -> None:
    """3.3.14. REGISTER with a URL Escaped Header.

    This register request contains a contact where the URI has an escaped header.

    The register should succeed, and a subsequent retrieval of the registration must include the escaped Route header in
    the contact URI for this binding.
    """
    data = messages(4475)["regescrt"]
    contact = contact_of(request(data))
    assert (contact.uri.user, contact.uri.host) == ("user", "example.com")
    assert contact.uri.headers == "?Route=%3Csip:sip.example.com%3E"
    assert bound(data) == ["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>;expires=3600"]

    # What goes to this contact has it neither in its Request-URI (section 3.1.2.11) nor as a header.
    world = World()
    world.datagram(data, BOB)
    invut = exchanged(messages(4475)["invut"])
    (relayed,) = world.datagram(invut)
    assert relayed.startswith(b"MESSAGE sip:user@example.com SIP/2.0\r\n")
    assert header(relayed, "Route") == ""


def test_sdp01() -> None:
    """3.3.15. Unacceptable Accept Offering.

    This request indicates that the response must contain a body in an unknown type.  In particular, since the Accept
    header field does not contain application/sdp, the response may not contain an SDP body.  The recipient of this
    request could respond with a 406 Not Acceptable, with a Warning/399 indicating that a response cannot be formulated
    in the formats offered in the Accept header field.  It is also appropriate to respond with a 400 Bad Request, since
    all SIP User-Agents (UAs) supporting INVITE are required to support application/sdp.
    """
    data = messages(4475)["sdp01"]
    message = request(data)
    assert message.get("accept") == "text/nobodyKnowsThis"

    # No answer of ours has a body, which satisfies everybody.
    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    row = kept(exchanged(data), "sip:user@example.com")
    assert "Accept: text/nobodyKnowsThis\r\n" in row.extra_hdrs


# -- 3.4. Backward Compatibility ---------------------------------------------------------------------------------------


def test_inv2543() -> None:
    """3.4.1. INVITE with RFC 2543 Syntax.

    This is a legal message per RFC 2543 (and several bis versions) that should be accepted by RFC 3261 elements that
    want to maintain backwards compatibility.

    o  There is no branch parameter at all on the Via header field value.

    o  There is no From tag.

    o  There is no explicit Content-Length.  (The body is assumed to be all octets in the datagram after the null-line.)

    o  There is no Max-Forwards header field.
    """
    data = messages(4475)["inv2543"]
    message = request(data)
    assert message.via == parse_via("SIP/2.0/UDP iftgw.example.com")
    assert message.via.branch == message.from_.tag == message.to.tag == ""
    assert message.from_.uri_text == "sip:+13035551111@ift.client.example.net;user=phone"
    # Outside of brackets a parameter is one of the header (RFC 3261 section 20).
    assert (message.to.uri_text, message.to.params) == ("sip:+16505552222@ss1.example.net", ";user=phone")
    assert message.get("record-route") == "<sip:UserB@example.com;maddr=ss1.example.com>"
    assert message.max_forwards is message.content_length is None
    assert message.body == data.partition(b"\r\n\r\n")[2]
    assert len(message.body) == 105

    assert set(of_list(answered_datagram(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    kept(exchanged(data), "sip:UserB@example.com")

    # On a stream nobody knows where it ends; of RFC 2543 only the length has to be there.
    (item,) = framed(data)
    assert isinstance(item, Malformed)
    assert item.fatal
    world = World()
    assert [status_of(octets) for octets in world.stream(data, tcp(ALICE))] == [400]
    assert world.closed == [tcp(ALICE)]
    with_length = data.replace(b"\r\n\r\n", b"\r\nContent-Length: 105\r\n\r\n", 1)
    answered(with_length, "405 Method Not Allowed")


# -- The archive -------------------------------------------------------------------------------------------------------


def test_test() -> None:
    """A file of the archive that no section prints: no version, no Via, a line without a colon."""
    data = messages(4475)["test"]
    with pytest.raises(PeerError):
        tokenise(data)
    item = frame_datagram(data)
    assert isinstance(item, Malformed)
    assert item.message is None
    malformed(data, fatal=True)
    dropped(data, closes=True)


def test_every_message_of_the_catalogue_has_a_test() -> None:
    names = messages(4475).keys()
    assert len(names) == 50
    assert names - {"test"} == set(printed_names(4475))
    assert names <= covered_names(4475)
