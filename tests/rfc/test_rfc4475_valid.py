"""RFC 4475 section 3.1.1: messages that are valid, and look as if they were not.

An INVITE is refused here: this is no element for calls. What its oddities make of a message for somebody who is away
shows the same INVITE with the method MESSAGE.
"""

import pytest

from msilo_core.actions import Bind
from msilo_core.errors import ParseError
from msilo_core.fields import STAR, Contact, CSeq, parse_date, parse_name_addr
from msilo_core.fields.parameters import parameters
from msilo_core.framing import Malformed
from msilo_core.message import Request, parse_message
from msilo_core.uri import Aor, parse_uri
from tests.core.wire import framed, request, response
from tests.core.world import ALICE, World, header, status_of, tcp
from tests.rfc.archive import messages
from tests.rfc.torture import ALLOWED, answered, answered_datagram, bound, dropped, exchanged, kept, of_list


def contacts_of(message: Request) -> tuple[Contact, ...]:
    contacts = message.contacts
    assert contacts is not STAR
    return contacts


def test_wsinv() -> None:
    """3.1.1.1. A Short Tortuous INVITE.

    This short, relatively human-readable message contains:

    o  line folding all over.
    o  escaped characters within quotes.
    o  an empty subject.
    o  LWS between colons, semicolons, header field values, and other fields.
    o  both comma separated and separately listed header field values.
    o  a mix of short and long form for the same header field name.
    o  unknown Request-URI parameter.
    o  unknown header fields.
    o  an unknown header field with a value that would be syntactically invalid if it were defined in terms of
       generic-param.
    o  unusual header field ordering.
    o  unusual header field name character case.
    o  unknown parameters of a known header field.
    o  a uri parameter with no value.
    o  a header parameter with no value.
    o  integer fields (Max-Forwards and CSeq) with leading zeros.

    All elements should treat this as a well-formed request.

    The UnknownHeaderWithUnusualValue header field deserves special attention.  If this header field were defined in
    terms of comma-separated values with semicolon-separated parameters (as would many of the existing defined header
    fields), this would be invalid.  However, since the receiving element does not know the definition of the syntax
    for this field, it must parse it as a header value.  Proxies would forward this header field unchanged.  Endpoints
    would ignore the header field.
    """
    data = messages(4475)["wsinv"]
    message = request(data)

    assert message.method == "INVITE"
    assert message.uri == parse_uri("sip:vivekg@chair-dnrc.example.com;unknownparam")
    assert message.uri.param("unknownparam") == ""
    assert (message.to.display_name, message.to.uri_text) == ("", "sip:vivekg@chair-dnrc.example.com")
    assert message.to.tag == "1918181833n"
    assert (message.from_.display_name, message.from_.uri_text) == ('J Rosenberg \\"', "sip:jdrosen@example.com")
    assert message.from_.tag == "98asjd8"
    assert message.max_forwards == 68
    assert message.call_id == "wsinv.ndaksdj@192.0.2.1"
    assert message.content_length == len(message.body) == 150
    assert message.cseq == CSeq(9, "INVITE")
    assert [(via.transport, via.host, via.port, via.branch) for via in message.vias] == [
        ("UDP", "192.0.2.2", None, "390skdjuw"),
        ("TCP", "spindle.example.com", None, "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", None, "z9hG4bK30239"),
    ]
    assert message.via == message.vias[0]
    assert message.get("subject") == ""
    assert message.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.get("unknownheaderwithunusualvalue") == ";;,,;;,;"
    assert message.content_type == "application/sdp"
    (route,) = message.routes
    assert route.uri.host == "services.example.com"
    assert [route.uri.param(name) for name in ("lr", "unknownwith", "unknown-no-value")] == ["", "value", ""]
    assert parse_name_addr(message.get_all("contact")[0]).display_name == 'Quoted string ""'
    (contact,) = contacts_of(message)
    assert (contact.uri_text, contact.q) == ("sip:jdrosen@example.com", 330)
    assert list(parameters(contact.params, 0)) == [("newparam", "newvalue"), ("secondparam", ""), ("q", "0.33")]
    assert message.body.startswith(b"v=0\r\no=mhandley 29739 7272939 IN IP4 192.0.2.3\r\n")
    assert message.head.keys == [
        "to", "from", "max-forwards", "call-id", "content-length", "cseq", "via", "subject", "newfangledheader",
        "unknownheaderwithunusualvalue", "content-type", "route", "via", "contact",
    ]  # fmt: skip

    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    row = kept(exchanged(data), "sip:vivekg@chair-dnrc.example.com")
    assert row.extra_hdrs == (
        "s :\r\nNewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
        "UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
        'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n'
        "  secondparam ; q = 0.33\r\n"
    )


def test_intmeth() -> None:
    r"""3.1.1.2. Wide Range of Valid Characters.

    This message exercises a wider range of characters in several key syntactic elements than implementations usually
    see.  In particular, note the following:

    o  The Method contains non-alpha characters from token.  Note that % is not an escape character for this field.  A
       method of IN%56ITE is an unknown method.  It is not the same as a method of INVITE.

    o  The Request-URI contains unusual, but legal, characters.

    o  A branch parameter contains all non-alphanum characters from token.

    o  The To header field value's quoted string contains quoted-pair expansions, including a quoted NULL character.

    o  The name part of name-addr in the From header field value contains multiple tokens (instead of a quoted string)
       with all non-alphanum characters from the token production rule.  That value also has an unknown header parameter
       whose name contains the non-alphanum token characters and whose value is a non-ascii range UTF-8 encoded string.
       The tag parameter on this value contains the non-alphanum token characters.

    o  The Call-ID header field value contains the non-alphanum characters from word.  Notice that in this production:

       *  % is not an escape character.  It is only an escape character in productions matching the rule "escaped".

       *  " does not start a quoted string.  None of ',` or " imply that there will be a matching symbol later in the
          string.

       *  The characters []{}()<> do not have any grouping semantics.  They are not required to appear in balanced
          pairs.

    o  There is an unknown header field (matching extension-header) with non-alphanum token characters in its name and
       a UTF8-NONASCII value.

    If this unusual URI has been defined at a proxy, the proxy will forward this request normally.  Otherwise, a proxy
    will generate a 404.  Endpoints will generate a 501 listing the methods they understand in an Allow header field.
    """
    data = messages(4475)["intmeth"]
    message = request(data)

    assert message.method == message.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"
    user = "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert (message.uri.user, message.uri.host) == (user, "example.com")
    assert message.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.uri.params == message.uri.headers == ""
    assert message.via.branch == "z9hG4bK-.!%66*_+`'~"
    assert message.to.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.to.uri.aor() == Aor(user, "example.com")
    assert message.from_.display_name == "token1~` token2'+_ token3*%!.-"
    assert message.from_.uri_text == "sip:mundane@example.com"
    assert dict(parameters(message.from_.params, 0)) == {
        "fromparam''~+*_!.-%": '"работающий"',
        "tag": "_token~1'+`*%!-.",
    }
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.cseq.number == 139122385
    assert message.max_forwards == 255
    assert message.get("extensionheader-!.%*+_`'~") == "\ufeff大停電"
    assert message.content_length == 0

    assert set(of_list(answered(data, "501 Not Implemented"), "allow")) == ALLOWED
    row = kept(exchanged(data), f"sip:{user}@example.com")
    assert row.owner.username == user
    assert row.extra_hdrs == "extensionHeader-!.%*+_`'~:\ufeff大停電\r\n"


def test_esc01() -> None:
    """3.1.1.3. Valid Use of the % Escaping Mechanism.

    This INVITE exercises the % HEX HEX escaping mechanism in several places.  The request is syntactically valid.
    Interesting features include the following:

    o  The request-URI has sips:user@example.com embedded in its userpart.  What that might mean to example.net is
       beyond the scope of this document.

    o  The From and To URIs have escaped characters in their userparts.

    o  The Contact URI has escaped characters in the URI parameters.  Note that the "name" uri-parameter has a value of
       "value%41", which is NOT equivalent to "valueA".  Per [RFC3986], unescaping URI components is never performed
       recursively.

    A parser must accept this as a well-formed message.  The application using the message must treat the % HEX HEX
    expansions as equivalent to the character being encoded.  The application must not try to interpret % as an escape
    character in those places where % HEX HEX ("escaped" in the grammar) is not a valid part of the construction.  In
    [RFC3261], "escaped" only occurs in the expansions of SIP-URI, SIPS-URI, and Reason-Phrase.
    """
    data = messages(4475)["esc01"]
    message = request(data)

    assert message.uri.aor() == Aor("sips:user@example.com", "example.net")
    assert message.to.uri.aor() == Aor("user", "example.com")
    assert message.from_.uri.aor() == Aor("I have spaces", "example.net")
    assert message.from_.tag == "938"
    assert message.call_id == "esc01.239409asdfakjkn23onasd0-3234"
    assert message.content_type == "application/sdp"
    (contact,) = contacts_of(message)
    assert contact.uri.aor() == Aor("caller", "host5.example.net")
    assert contact.uri.param("lr") == ""
    assert contact.uri.param("name") == "value%41"
    assert contact.uri.equivalent(parse_uri("sip:caller@host5.example.net;lr;name=value%2541"))
    assert not contact.uri.equivalent(parse_uri("sip:caller@host5.example.net;lr;name=valueA"))

    assert set(of_list(answered(data, "405 Method Not Allowed"), "allow")) == ALLOWED
    row = kept(exchanged(data), "sip:sips%3Auser%40example.com@example.net")
    assert row.owner.username == "sips:user@example.com"
    assert (row.src_addr, row.dst_addr) == ("sip:I%20have%20spaces@example.net", "sip:%75se%72@example.com")


def test_escnull() -> None:
    """3.1.1.4. Escaped Nulls in URIs.

    This register request contains several URIs with nulls in the userpart.  The message is well formed - parsers must
    accept this message.  Implementations must take special care when unescaping the Address-of-Record (AOR) in this
    request so as to not prematurely shorten the username.  This request registers two distinct contact URIs.
    """
    data = messages(4475)["escnull"]
    message = request(data)

    assert (message.to.uri.user, message.to.uri.host) == ("null-%00-null", "example.com")
    assert message.from_.uri.user == "null-%00-null"
    one, two = contacts_of(message)
    assert (one.uri.user, two.uri.user) == ("%00", "%00%00")
    assert not one.uri.equivalent(two.uri)

    # Nobody can have such an address here: control characters are neither shown nor stored safely. "If the
    # address-of-record is not valid for the domain in the Request-URI, the registrar MUST send a 404 (Not Found)"
    # (RFC 3261 section 10.3 step 5), and nothing is written for any other name.
    with pytest.raises(ParseError):
        message.to.uri.aor()
    answered(data, "404 ")
    world = World()
    world.hold = {Bind}
    world.datagram(data)
    assert not world.held
    # Somebody with a usual address registers the two contacts.
    assert sorted(bound(data.replace(b"null-%00-null", b"null"))) == [
        "<sip:%00%00@host5.example.com>;expires=3600",
        "<sip:%00@host5.example.com>;expires=3600",
    ]


def test_esc02() -> None:
    """3.1.1.5. Use of % When It Is Not an Escape.

    In most of the places % can appear in a SIP message, it is not an escape character.  This can surprise the unwary
    implementor.  The following well-formed request has these properties:

    o  The request method is unknown.  It is NOT equivalent to REGISTER.

    o  The display name portion of the To and From header fields is "%Z%45".  Note that this is not the same as %ZE.

    o  This message has two Contact header field values, not three.  <sip:alias2@host2.example.com> is a C%6Fntact
       header field value.

    A parser should accept this message as well formed.  A proxy would forward or reject the message depending on what
    the Request-URI meant to it.  An endpoint would reject this message with a 501.
    """
    data = messages(4475)["esc02"]
    message = request(data)

    assert message.method == message.cseq.method == "RE%47IST%45R"
    assert message.to.display_name == message.from_.display_name == "%Z%45"
    assert message.via.branch == "z9hG4bK209%fzsnel234"
    assert [contact.uri_text for contact in contacts_of(message)] == [
        "sip:alias1@host1.example.com",
        "sip:alias3@host3.example.com",
    ]
    assert message.get("c%6fntact") == "<sip:alias2@host2.example.com>"

    assert set(of_list(answered(data, "501 Not Implemented"), "allow")) == ALLOWED
    assert sorted(bound(exchanged(data, "REGISTER"))) == [
        "<sip:alias1@host1.example.com>;expires=3600",
        "<sip:alias3@host3.example.com>;expires=3600",
    ]


def test_lwsdisp() -> None:
    """3.1.1.6. Message with No LWS between Display Name and <.

    This OPTIONS request is not valid per the grammar in RFC 3261 since there is no LWS between the token in the display
    name and < in the From header field value.  This has been identified as a specification bug that will be removed
    when RFC 3261 is revised.  Elements should accept this request as well formed.
    """
    data = messages(4475)["lwsdisp"]
    message = request(data)

    assert message.from_.display_name == "caller"
    assert message.from_.uri_text == "sip:caller@example.com"
    assert message.from_.tag == "323"

    assert set(of_list(answered(data, "200 OK"), "allow")) == ALLOWED
    row = kept(exchanged(data), "sip:user@example.com")
    assert row.from_hdr == "caller<sip:caller@example.com>;tag=323"


def test_longreq() -> None:
    """3.1.1.7. Long Values in Header Fields.

    This well-formed request contains header fields with many values and values that are very long.  Features include
    the following:

    o  The To header field has a long display name, and long uri parameter names and values.

    o  The From header field has long header parameter names and values, in particular, a very long tag.

    o  The Call-ID is one long token.
    """
    data = messages(4475)["longreq"]
    message = request(data)

    assert message.to.display_name == f"I have a user name of {'extreme' * 10} proportion"
    assert (message.to.uri.user, message.to.uri.host, message.to.uri.port) == ("user", "example.com", 6000)
    assert message.to.uri.param("unknownparam1") == f"very{'long' * 20}value"
    assert message.to.uri.param(f"longparam{'name' * 25}") == "shortvalue"
    assert message.to.uri.param(f"very{'long' * 25}ParameterNameWithNoValue") == ""
    assert message.from_.uri_text == f"sip:{'amazinglylongcallername' * 5}@example.net"
    assert message.from_.tag == f"12{'982' * 50}424"
    assert list(parameters(message.from_.params, 0))[1:] == [
        (f"unknownheaderparam{'name' * 20}", f"unknowheaderparam{'value' * 15}"),
        (f"unknownvalueless{'paramname' * 10}", ""),
    ]
    assert message.call_id == f"longreq.one{'really' * 20}longcallid"
    assert message.cseq == CSeq(3882340, "INVITE")
    dashed = f"unknown-{'long' * 20}"
    assert message.get(f"{dashed}-name") == f"{dashed}-value; {dashed}-parameter-name = {dashed}-parameter-value"
    vias = message.vias
    assert [via.host for via in vias] == [f"sip{number}.example.com" for number in range(33, 0, -1)] + [
        "host.example.com"
    ]
    assert vias[-1].branch == f"very{'long' * 50}branchvalue"
    assert vias[-1].received == "192.0.2.5"
    (contact,) = contacts_of(message)
    assert contact.uri.user == "amazinglylongcallername" * 5
    assert message.content_length == 150

    answer = answered(data, "405 Method Not Allowed")
    assert set(of_list(answer, "allow")) == ALLOWED
    assert len(answer.vias) == 34
    row = kept(exchanged(data), "sip:user@example.com")
    assert (row.callid, row.from_tag) == (message.call_id, message.from_.tag)


def test_dblreq() -> None:
    """3.1.1.8. Extra Trailing Octets in a UDP Datagram.

    This message contains a single SIP REGISTER request, which ostensibly arrived over UDP in a single datagram.  The
    packet contains extra octets after the body (which in this case has zero length).  The extra octets happen to look
    like a SIP INVITE request, but (per section 18.3 of [RFC3261]) they are just spurious noise that must be ignored.

    A SIP element receiving this datagram would handle the REGISTER request normally and ignore the extra bits that look
    like an INVITE request.  If the element is a proxy choosing to forward the REGISTER, the INVITE octets would not
    appear in the forwarded request.
    """
    data = messages(4475)["dblreq"]
    message = request(data)

    assert message.method == "REGISTER"
    assert message.body == b""
    assert b"INVITE" not in message.serialise()
    assert message.call_id == "dblreq.0ha0isndaksdj99sdfafnl3lk233412"
    assert message.to.uri_text == "sip:j.user@example.com"

    answer = answered_datagram(data, "200 OK")
    assert answer.get_all("contact") == ["<sip:j.user@host.example.com>;expires=3600"]

    # On a stream they are two requests; the second has an octet more than its Content-Length says, and the stream ends
    # with it.
    register, invite, noise = framed(data)
    assert register == message
    assert isinstance(invite, Request)
    assert (invite.method, len(invite.body)) == ("INVITE", 150)
    assert isinstance(noise, Malformed)
    assert noise.fatal
    world = World()
    answers = world.stream(data, tcp(ALICE))
    assert sorted((status_of(octets), header(octets, "CSeq")) for octets in answers) == [
        (200, "8 REGISTER"),
        (405, "8 INVITE"),
    ]
    assert world.closed == [tcp(ALICE)]


def test_semiuri() -> None:
    """3.1.1.9. Semicolon-Separated Parameters in URI User Part.

    This request has a semicolon-separated parameter contained in the "user" part of the Request-URI (whose value
    contains an escaped @ symbol).  Receiving elements will accept this as a well-formed message.  The Request-URI will
    parse so that the user part is "user;par=u@example.net".
    """
    data = messages(4475)["semiuri"]
    message = request(data)

    assert message.uri.aor() == Aor("user;par=u@example.net", "example.com")
    assert message.uri.params == ""
    assert of_list(message, "accept") == [
        "application/sdp", "application/pkcs7-mime", "multipart/mixed", "multipart/signed", "message/sip",
        "message/sipfrag",
    ]  # fmt: skip

    assert set(of_list(answered(data, "200 OK"), "allow")) == ALLOWED
    row = kept(exchanged(data), "sip:user;par=u%40example.net@example.com")
    assert row.owner.username == "user;par=u@example.net"


def test_transports() -> None:
    """3.1.1.10. Varied and Unknown Transport Types.

    This request contains Via header field values with all known transport types and exercises the transport extension
    mechanism.  Parsers must accept this message as well formed.  Elements receiving this message would process it
    exactly as if the 2nd and subsequent header field values specified UDP (or other transport).
    """
    data = messages(4475)["transports"]
    message = request(data)

    assert [(via.transport, via.host, via.branch) for via in message.vias] == [
        ("UDP", "t1.example.com", "z9hG4bKkdjuw"),
        ("SCTP", "t2.example.com", "z9hG4bKklasjdhf"),
        ("TLS", "t3.example.com", "z9hG4bK2980unddj"),
        ("UNKNOWN", "t4.example.com", "z9hG4bKasd0f3en"),
        ("TCP", "t5.example.com", "z9hG4bK0a9idfnee"),
    ]
    assert message.call_id == "transports.kijh4akdnaqjkwendsasfdj"

    answer = answered(data, "200 OK")
    assert answer.vias[1:] == message.vias[1:]
    assert set(of_list(answer, "allow")) == ALLOWED
    kept(exchanged(data), "sip:user@example.com")


def test_mpart01() -> None:
    """3.1.1.11. Multipart MIME Message.

    This MESSAGE request contains two body parts.  The second part is binary encoded and contains null (0x00)
    characters.  Receivers must take care to frame the received message properly.

    Parsers must accept this message as well formed, even if the application above the parser does not support
    multipart/signed.
    """
    data = messages(4475)["mpart01"]
    message = request(data)

    assert message.method == "MESSAGE"
    assert (message.via.host, message.via.port, message.via.rport) == ("127.0.0.1", 5070, "")
    assert list(map(str, message.routes)) == ["<sip:127.0.0.1:5080>"]
    assert message.get("identity") == (
        "r5mwreLuyDRYBi/0TiPwEsY3rEVsk/G2WxhgTV1PF7hHuLIK0YWVKZhKv9Mj8UeXqkMVbnVq37CD+813gvYjcBUaZngQmXc9WNZSDN"
        "GCzA+fWl9MEUHWIZo1CeJebdY/XlgKeTa0Olvq0rt70Q5jiSfbqMJmQFteeivUhkMWYUA="
    )
    assert message.call_id == "3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA.."
    assert message.content_type == "multipart/mixed;boundary=7a9cbec02ceef655"
    assert message.get("content-transfer-encoding") == "binary"
    # $ date -u -d "2005-10-15 04:44:56" +%s
    assert parse_date(message.get("date") or "") == 1_129_351_496
    assert len(message.body) == message.content_length == 553
    preamble, text, signature, end = message.body.split(b"--7a9cbec02ceef655")
    assert (preamble, end) == (b"", b"--\r\n")
    assert text.endswith(b"\r\n\r\nHello\r\n")
    # The DER of 0x152 + 4 octets that the RFC prints.
    assert len(signature.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")) == 0x156
    assert b"\0" in signature

    row = kept(data, "sip:kumiko@example.org")
    assert row.body == data[-553:]
    assert row.date_hdr == "Sat, 15 Oct 2005 04:44:56 GMT"
    assert "Content-Transfer-Encoding: binary\r\n" in row.extra_hdrs
    assert f"Identity: {message.get('identity')}\r\n" in row.extra_hdrs


def test_unreason() -> None:
    """3.1.1.12. Unusual Reason Phrase.

    This 200 response contains a reason phrase other than "OK".  The reason phrase is intended for human consumption and
    may contain any string produced by

        Reason-Phrase   =  *(reserved / unreserved / escaped / UTF8-NONASCII / UTF8-CONT / SP / HTAB)

    This particular response contains unreserved and non-ascii UTF-8 characters.  This response is well formed.  A
    parser must accept this message.
    """
    data = messages(4475)["unreason"]
    message = response(data)

    assert message.status == 200
    assert message.reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert message.via.branch == "z9hG4bK1324923"
    assert message.cseq == CSeq(35, "INVITE")
    assert (message.from_.tag, message.to.tag) == ("11141343", "2229")
    assert message.content_length == len(message.body) == 154

    # It answers nothing that was asked.
    dropped(data)


def test_noreason() -> None:
    """3.1.1.13. Empty Reason Phrase.

    This well-formed response contains no reason phrase.  A parser must accept this message.  The space character after
    the reason code is required.  If it were not present, this message could be rejected as invalid (a liberal receiver
    would accept it anyway).
    """
    data = messages(4475)["noreason"]
    message = response(data)

    assert (message.status, message.reason) == (100, "")
    assert message.from_.tag == "39ansfi3"
    assert message.to.tag == "902jndnke3"
    dropped(data)

    # The space tells nothing, and a phone that forgets it has its answer counted.
    without_space = response(data.replace(b"SIP/2.0 100 \r\n", b"SIP/2.0 100\r\n"))
    assert (without_space.status, without_space.reason) == (100, "")
    assert parse_message(without_space.serialise()) == without_space
