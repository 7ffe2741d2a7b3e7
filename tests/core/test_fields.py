"""Values of header fields (RFC 3261 sections 20 and 25.1)."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core import fields
from msilo_core.errors import ParseError, PeerError, ValueTooLong
from msilo_core.fields import (
    DELTA_SECONDS_MAX,
    STAR,
    Contact,
    CSeq,
    MediaType,
    NameAddr,
    Via,
    check_media_type,
    format_date,
    is_token,
    parse_call_id,
    parse_contacts,
    parse_content_length,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_max_forwards,
    parse_media_type,
    parse_name_addr,
    parse_via,
    split_first,
    split_list,
)
from msilo_core.limits import Limits
from msilo_core.uri import parse_uri
from tests.core.wire import growth

# -- Via ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "via"),
    [
        (
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport",
            Via("UDP", "192.0.2.1", 5060, "z9hG4bK776asdhds", ";branch=z9hG4bK776asdhds;rport"),
        ),
        (
            "SIP/2.0/TCP pc33.Example.com;rport;branch=z9hG4bK1;alias",
            Via("TCP", "pc33.Example.com", None, "z9hG4bK1", ";rport;branch=z9hG4bK1;alias"),
        ),
        ("SIP/2.0/udp h", Via("UDP", "h", None, "", "")),
        ("sip/2.0/Tls-Sctp h : 5061 ; BRANCH = x", Via("TLS-SCTP", "h", 5061, "x", "; BRANCH = x")),
        ("SIP  / 2.0  / TCP     spindle.example.com   ;\tbranch  =   z9hG4bK9ikj8  ",
         Via("TCP", "spindle.example.com", None, "z9hG4bK9ikj8", ";\tbranch  =   z9hG4bK9ikj8")),
        (
            "SIP/2.0/UDP [2001:db8::9:1]:6050;branch=b",
            Via("UDP", "[2001:db8::9:1]", 6050, "b", ";branch=b"),
        ),
        ("SIP/7.0/UDP c.example.com;branch=b", Via("UDP", "c.example.com", None, "b", ";branch=b")),
        ("SIP/2.0/UDP 1.2.3.4.example.com : 5060;branch=b",
         Via("UDP", "1.2.3.4.example.com", 5060, "b", ";branch=b")),
        ("SIP/2.0/UDP h;branches=a;branch=b", Via("UDP", "h", None, "b", ";branches=a;branch=b")),
        ('SIP/2.0/UDP h;x=";branch=no";branch=b', Via("UDP", "h", None, "b", ';x=";branch=no";branch=b')),
    ],
)  # fmt: skip
def test_via(text: str, via: Via) -> None:
    assert parse_via(text) == via
    assert parse_via(f" {text}\t") == via


def test_what_a_via_says() -> None:
    via = parse_via("SIP/2.0/UDP Pc33.Example.com:5062;rport;received=192.0.2.9;maddr=224.2.0.1;branch=b;ttl=16")

    assert via.sent_by == "pc33.example.com:5062"
    assert via.received == "192.0.2.9"
    assert via.rport == ""
    assert via.param("TTL") == "16"
    assert via.param("x") is None
    assert parse_via("SIP/2.0/UDP Host").sent_by == "host"
    assert parse_via("SIP/2.0/UDP Host").rport is None
    assert parse_via("SIP/2.0/UDP h;rport=5060").rport == "5060"


@pytest.mark.parametrize(
    "params",
    [
        "", ";rport", ";rport;x", ";RPort", ";rport=1;rport", ";RPORT=7;rport", ";xrport", ";x=rport;y",
        ";rport;branch=rport", ' ; rport ;x', ';x=";rport;"', ';x=";rport";rport', ";rport;x=rport",
    ],
)  # fmt: skip
def test_rport_however_it_is_written(params: str) -> None:
    via = parse_via("SIP/2.0/UDP h" + params)

    assert via.rport == via.param("rport")


@pytest.mark.parametrize("received", ["2001:db8::9:255", "[2001:db8::9:255]", "::1", "192.0.2.1", "fe80::1:2"])
def test_received_may_be_any_address(received: str) -> None:
    # RFC 5118 section 4.5: with the brackets that the grammar does not have here, and without.
    via = parse_via(f"SIP/2.0/UDP [2001:db8::9:1];received={received};branch=z9hG4bKas3-111")

    assert via.received == received
    assert via.branch == "z9hG4bKas3-111"


@pytest.mark.parametrize(
    "text",
    [
        "", "SIP/2.0/UDP", "SIP/2.0 h", "SIP/2.0/UDP  ", "/2.0/UDP h", "SIP/2.0/UDP h:", "SIP/2.0/UDP h:0",
        "SIP/2.0/UDP h:65536", "SIP/2.0/UDP a..b", "SIP/2.0/UDP -a;branch=b", "SIP/2.0/UDP h;",
        "SIP/2.0/UDP h;;branch=b",
        "SIP/2.0/UDP 192.0.2.15;;,;,,", "SIP/2.0/UDP h;branch", "SIP/2.0/UDP h;branch=", 'SIP/2.0/UDP h;branch="b"',
        "SIP/2.0/UDP h;branch=a;branch=a", "SIP/2.0/UDP h;branch=a;Branch=b", "SIP/2.0/UDP h;branch=b;branch",
        "SIP/2.0/UDP h;branch=b, SIP/2.0/UDP i", "SIP/2.0/UDP [1::2::3];branch=b", "SIP/2.0/UDP 2001:db8::1;branch=b",
        "SIP/2.0/UDP h;branch=b\r\n", "SIP/2.0/UDP h;branch=é", "SIP/2.0/UDP h;x=\"", "SIP/2.0/UDP h i",
        "SIP/2.0/UDP h;a b",
    ],
)  # fmt: skip
def test_what_is_no_via(text: str) -> None:
    with pytest.raises(ParseError):
        parse_via(text)


@pytest.mark.parametrize(
    ("params", "suffix", "completed"),
    [
        (";branch=b", "", ";branch=b"),
        (";branch=b", ";received=192.0.2.1", ";branch=b;received=192.0.2.1"),
        (";branch=b;rport", ";received=192.0.2.1;rport=9", ";branch=b;received=192.0.2.1;rport=9"),
        (";rport;branch=b", ";rport=9", ";branch=b;rport=9"),
        (";branch=b;rport", ";received=192.0.2.1", ";branch=b;rport;received=192.0.2.1"),
        (";RPort = 7 ;branch=b", ";rport=9", " ;branch=b;rport=9"),
        (";received=2001:db8::1;rport=1;branch=b", ";received=::2;rport=9", ";branch=b;received=::2;rport=9"),
        (";received=[::1];branch=b;received=x", ";received=192.0.2.1", ";branch=b;received=192.0.2.1"),
        (";rports;branch=rport;xrport", ";rport=9", ";rports;branch=rport;xrport;rport=9"),
        (';x=";rport;\\";rport";rport;y="a"', ";rport=9", ';x=";rport;\\";rport";y="a";rport=9'),
        (';rport=";rport";branch=b', ";rport=9", ";branch=b;rport=9"),
    ],
)
def test_what_the_server_saw_stands_instead_of_what_the_sender_wrote(params: str, suffix: str, completed: str) -> None:
    via = parse_via("SIP/2.0/UDP h" + params)

    assert via.params == params
    assert via.completed(suffix) == completed
    again = parse_via("SIP/2.0/UDP h" + completed)
    assert again.branch == via.branch
    for name in ("received", "rport"):
        assert again.param(name) == (parse_via("SIP/2.0/UDP h" + suffix).param(name) or via.param(name))


# -- From, To ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("<sip:bob@example.com>", NameAddr("", "sip:bob@example.com", "", "")),
        ('"Bob" <sip:bob@example.com>;tag=a1', NameAddr("Bob", "sip:bob@example.com", "a1", ";tag=a1")),
        ("Bob <sips:bob@192.0.2.1:5061;x=y>;tag=a", NameAddr("Bob", "sips:bob@192.0.2.1:5061;x=y", "a", ";tag=a")),
        ("sip:bob@example.com;tag=a", NameAddr("", "sip:bob@example.com", "a", ";tag=a")),
        ("sip:+19725552222@gw1.example.net;unknownparam",
         NameAddr("", "sip:+19725552222@gw1.example.net", "", ";unknownparam")),
        ("sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n",
         NameAddr("", "sip:vivekg@chair-dnrc.example.com", "1918181833n", ";   tag    = 1918181833n")),
        (r'"J Rosenberg \\\""       <sip:jdrosen@example.com> ; tag = 98asjd8',
         NameAddr(r'J Rosenberg \"', "sip:jdrosen@example.com", "98asjd8", "; tag = 98asjd8")),
        ("token1~` token2'+_\ttoken3*%!.- <sip:m@example.com>;fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.",
         NameAddr("token1~` token2'+_\ttoken3*%!.-", "sip:m@example.com", "_token~1'+`*%!-.",
                  ";fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.")),
        ('"BEL:\\\x07 NUL:\\\0 DEL:\\\x7f" <sip:a@b>', NameAddr("BEL:\x07 NUL:\0 DEL:\x7f", "sip:a@b", "", "")),
        ("caller<sip:caller@example.com>;tag=323", NameAddr("caller", "sip:caller@example.com", "323", ";tag=323")),
        ('"%Z%45" <sip:resource@example.com>', NameAddr("%Z%45", "sip:resource@example.com", "", "")),
        ('"<sip:x@y>" <sip:a@b>;x=">;tag=1"', NameAddr("<sip:x@y>", "sip:a@b", "", ';x=">;tag=1"')),
        ("<sip:a@b?Route=%3Csip:c%3E>;TAG=t", NameAddr("", "sip:a@b?Route=%3Csip:c%3E", "t", ";TAG=t")),
        ("<sip:[2001:db8::1]:5060>;x=[::1];tag=t", NameAddr("", "sip:[2001:db8::1]:5060", "t", ";x=[::1];tag=t")),
        ("<tel:+1-201-555-0123>;tag=t", NameAddr("", "tel:+1-201-555-0123", "t", ";tag=t")),
        ("isbn:2983792873", NameAddr("", "isbn:2983792873", "", "")),
        ('"\udcff" <sip:a@b>', NameAddr("\udcff", "sip:a@b", "", "")),
    ],
)  # fmt: skip
def test_name_addr(text: str, address: NameAddr) -> None:
    assert parse_name_addr(text) == address
    assert parse_name_addr(f" {text}\t ") == address


def test_the_uri_of_a_name_addr() -> None:
    assert parse_name_addr("Bob <sip:bob@example.com>").uri == parse_uri("sip:bob@example.com")


@pytest.mark.parametrize("text", ["<tel:+1201>", "<http://www.example.com>", "isbn:2983792873"])
def test_an_address_of_another_scheme_is_well_formed_and_no_sip_uri(text: str) -> None:
    address = parse_name_addr(text)

    # RFC 4475 section 3.3.4: a registrar answers such a To with 400, not with 416.
    with pytest.raises(ParseError) as caught:
        _ = address.uri
    assert caught.value.status_hint == 400


@pytest.mark.parametrize(
    "text",
    [
        "", ";tag=a", "<>", "Bob", '"Bob"', '"Mr. J. User <sip:j.user@example.com>', "<sip:bob@example.com",
        "Bell, Alexander <sip:a.g.bell@example.com>;tag=43", '"Watson, Thomas" < sip:t.watson@example.org >',
        "sip:user@example.com?Route=%3Csip:sip.example.com%3E", "sip:a,b@example.com", "<sip:a@b>>", "<<sip:a@b>>",
        "<sip:a@b>;", "<sip:a@b>;;x", "<sip:a@b>;tag", "<sip:a@b>;tag=", '<sip:a@b>;tag="x"', "<sip:a@b>;tag=a;tag=a",
        "<sip:a@b>;tag=a;Tag=b", "<sip:a@b>;tag=a b", "<sip:a@b>tag=a", "<sip:a@b>, <sip:c@d>", "<sip:a@a..b>",
        "<sip:a@b:0>", "<sip:a@b:65536>", "<sip:[1::2::3]>", "<sip:a@b> (comment)", "Żółw <sip:a@b>",
        '"a"b <sip:a@b>', '"\\é" <sip:a@b>', '"\0" <sip:a@b>', "<sip:a@b>\r\n", '"a\r\n" <sip:a@b>', "<sip:é@b>",
    ],
)  # fmt: skip
def test_what_is_no_name_addr(text: str) -> None:
    with pytest.raises(ParseError):
        parse_name_addr(text)


# -- Contact -----------------------------------------------------------------------------------------------------------


def test_contacts_of_several_lines() -> None:
    contacts = parse_contacts(
        [
            '"Quoted, string \\"\\"" <sip:alice@192.0.2.1:5070;ob> ; newparam = newvalue ; secondparam ; q = 0.33,'
            " sip:bob@example.com;expires=60",
            '<sip:carol@example.com>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";reg-id=2'
            ';methods="INVITE, MESSAGE";audio',
        ]
    )

    assert contacts == (
        Contact(
            parse_uri("sip:alice@192.0.2.1:5070;ob"),
            "sip:alice@192.0.2.1:5070;ob",
            "; newparam = newvalue ; secondparam ; q = 0.33",
            q=330,
        ),
        Contact(parse_uri("sip:bob@example.com"), "sip:bob@example.com", ";expires=60", expires_s=60),
        Contact(
            parse_uri("sip:carol@example.com"),
            "sip:carol@example.com",
            ';+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";reg-id=2;methods="INVITE, MESSAGE";audio',
            instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
            reg_id=2,
            methods="INVITE, MESSAGE",
        ),
    )


def test_no_contacts_and_the_star() -> None:
    assert parse_contacts([]) == ()
    assert parse_contacts([" * "]) is STAR
    for values in (["*", "*"], ["*, <sip:a@b>"], ["<sip:a@b>", "*"], ["*;expires=0"], ['"*"']):
        with pytest.raises(ParseError):
            parse_contacts(values)


@pytest.mark.parametrize(
    ("expires", "expires_s"),
    [("0", 0), ("007", 7), ("4294967295", 2**32 - 1), ("4294967296", 2**32 - 1), ("9" * 5_000, 2**32 - 1)]
    + [(text, 3600) for text in ("", "=x", "=-1", "=1.5", '="60"', '="Sun, 06 Nov 1994 08:49:37 GMT"', "=1_0")],
)
def test_expires_of_a_contact(expires: str, expires_s: int) -> None:
    param = f"expires={expires}" if expires.isdigit() else f"expires{expires}"

    (contact,) = _contacts(f"<sip:a@b>;{param}")
    assert contact.expires_s == expires_s


@pytest.mark.parametrize(
    ("text", "q"),
    [("0", 0), ("1", 1000), ("0.", 0), ("1.", 1000), ("0.5", 500), ("0.05", 50), ("0.001", 1), ("1.000", 1000)],
)
def test_q(text: str, q: int) -> None:
    (contact,) = _contacts(f"<sip:a@b>;q={text}")
    assert contact.q == q


@pytest.mark.parametrize(
    "param",
    [
        "q",
        "q=",
        "q=2",
        "q=1.1",
        "q=1.001",
        "q=0.1234",
        "q=.5",
        "q=-1",
        "q=00",
        "reg-id",
        "reg-id=x",
        "reg-id=2147483648",
    ],
)
def test_malformed_contact_parameters(param: str) -> None:
    with pytest.raises(ParseError):
        parse_contacts([f"<sip:a@b>;{param}"])


def test_a_contact_that_nothing_can_be_delivered_to() -> None:
    for text in ("<name:John_Smith>", "tel:+1201", "<sip:a@a..b>", '"Joe" <sip:joe@example.org>;;;;'):
        with pytest.raises(ParseError):
            parse_contacts([text])


def test_the_length_of_a_contact_is_bounded() -> None:
    limits = Limits(uri_bytes_max=11)

    (contact,) = _contacts("<sip:a@b.com>", limits)
    assert contact.uri_text == "sip:a@b.com"
    with pytest.raises(ValueTooLong) as caught:
        parse_contacts(["<sip:ab@b.com>"], limits)
    assert caught.value.status_hint == 400


def _contacts(text: str, limits: Limits | None = None) -> tuple[Contact, ...]:
    contacts = parse_contacts([text], limits or Limits())
    assert contacts is not STAR
    return contacts


# -- Numbers, Call-ID, lists -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cseq"),
    [
        ("1 MESSAGE", CSeq(1, "MESSAGE")),
        (" 0009  \t INVITE ", CSeq(9, "INVITE")),
        ("0 RE%47IST%45R", CSeq(0, "RE%47IST%45R")),
        ("2147483647 x", CSeq(2**31 - 1, "x")),
        ("0" * 99 + "2147483647 x", CSeq(2**31 - 1, "x")),
    ],
)
def test_cseq(text: str, cseq: CSeq) -> None:
    assert parse_cseq(text) == cseq


@pytest.mark.parametrize(
    "text",
    ["", "1", "MESSAGE", "1MESSAGE", "-1 M", "+1 M", "1 M N", "1 M;x", "٣ M", "2147483648 M", "36893488147419103232 M"],
)
def test_what_is_no_cseq(text: str) -> None:
    with pytest.raises(ParseError):
        parse_cseq(text)


@pytest.mark.parametrize("text", ["a", "a@b", "a84b4c76e66710@pc33.example.com", "ZK-!.*_+'@word`~)(><:\\/\"][?}{"])
def test_call_id(text: str) -> None:
    assert parse_call_id(f" {text} ") == text


@pytest.mark.parametrize("text", ["", "@", "a@", "@a", "a@b@c", "a b", "a,b", "a;b", "a=b", "é", "a\0"])
def test_what_is_no_call_id(text: str) -> None:
    with pytest.raises(ParseError):
        parse_call_id(text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("70", 70), ("0068", 68), ("255", 255), (" 7\t", 7)])
def test_max_forwards(text: str, number: int) -> None:
    assert parse_max_forwards(text) == number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("00553", 553), ("9999999999", 9_999_999_999), (" 7\t", 7)])
def test_content_length(text: str, number: int) -> None:
    assert parse_content_length(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("60", 60), ("4294967295", 2**32 - 1), ("4294967296", 2**32 - 1), ("1" + "0" * 100, DELTA_SECONDS_MAX)],
)
def test_delta_seconds(text: str, number: int) -> None:
    assert parse_delta_seconds(text) == number


@pytest.mark.parametrize("text", ["", "five", "-999", "+1", "1.0", "1 2", "1,2", "1_0", "0x1", "٣", "²"])
@pytest.mark.parametrize("parse", [parse_max_forwards, parse_content_length, parse_delta_seconds])
def test_what_is_no_number(parse: Callable[[str], int], text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


def test_numbers_out_of_range() -> None:
    for text in ("256", "300", "9" * 5_000):
        with pytest.raises(ParseError):
            parse_max_forwards(text)
    for text in ("10000000000", "9" * 5_000):
        with pytest.raises(ParseError):
            parse_content_length(text)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("", []),
        (" ", []),
        ("a", ["a"]),
        ("a, b\t,c", ["a", "b", "c"]),
        (",a,,b,", ["a", "b"]),
        ('"a,b" <sip:c,d@e>;x=",", f', ['"a,b" <sip:c,d@e>;x=","', "f"]),
        ('"\\",\\\\" , b', ['"\\",\\\\"', "b"]),
        ("<a,b>,<c>", ["<a,b>", "<c>"]),
    ],
)
def test_lists(value: str, parts: list[str]) -> None:
    assert split_list(value) == parts


@pytest.mark.parametrize("value", ['"', 'a, "b', "<a", "a, <b, c", '"a\\"', "a, <b<c>"])
def test_what_is_not_closed_is_no_list(value: str) -> None:
    with pytest.raises(ParseError):
        split_list(value)


def test_the_first_of_a_list() -> None:
    assert split_first(' "a,b" ;c , d, e ') == ('"a,b" ;c', "d, e")
    assert split_first("a") == ("a", "")
    assert split_first("") == ("", "")
    with pytest.raises(ParseError):
        split_first('"a, b')


def test_token_is_offered_here_too() -> None:
    assert is_token("MESSAGE")
    assert not is_token("a b")


# -- Content-Type ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "media_type"),
    [
        ("text/plain", MediaType("text", "plain")),
        ("Text/PLAIN ; Charset=UTF-8", MediaType("text", "plain", "utf-8")),
        (
            ' message / cpim;a="x;charset=no";charset="ISO-8859-1";charset=x ',
            MediaType("message", "cpim", "iso-8859-1"),
        ),
        ("application/im-iscomposing+xml", MediaType("application", "im-iscomposing+xml")),
        ("multipart/mixed;boundary=7a9cbec02ceef655", MediaType("multipart", "mixed")),
    ],
)
def test_media_type(text: str, media_type: MediaType) -> None:
    assert parse_media_type(text) == media_type
    check_media_type(text)


@pytest.mark.parametrize(
    "text",
    ["", "text", "text/", "/plain", "text/plain;", "text/plain;charset", "text/plain;charset=", "text/plain x", "a/b/c",
     "text/plain, text/html", 'text/plain;a="', "text/plain\r\n", "té/xt"],
)  # fmt: skip
def test_what_is_no_media_type(text: str) -> None:
    with pytest.raises(ParseError):
        check_media_type(text)


# -- Date --------------------------------------------------------------------------------------------------------------


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), timezones=st.just(UTC)))
def test_dates_are_written_as_the_calendar_says_and_read_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    unix_s = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution * 1_000_000)

    assert format_date(unix_s) == f"{moment:%a, %d %b} {moment.year:04} {moment:%H:%M:%S} GMT"
    assert parse_date(format_date(unix_s)) == unix_s


def test_the_date_of_rfc_3261_section_20_17() -> None:
    assert parse_date(" Sat, 13 Nov 2010 23:29:00 GMT ") == 1_289_690_940
    assert format_date(1_289_690_940) == "Sat, 13 Nov 2010 23:29:00 GMT"
    assert parse_date("Mon, 13 Nov 2010 23:29:00 GMT") == 1_289_690_940


@pytest.mark.parametrize(
    "text",
    [
        "", "Fri, 01 Jan 2010 16:00:00 EST", "Fri, 01 Jan 2010 16:00:00 UTC", "Fri, 01 Jan 2010 16:00:00 gmt",
        "Fri, 1 Jan 2010 16:00:00 GMT", "Fri, 01 Jan 10 16:00:00 GMT", "Fri, 01  Jan 2010 16:00:00 GMT",
        "01 Jan 2010 16:00:00 GMT", "Fri, 01 jan 2010 16:00:00 GMT", "Fri, 31 Feb 2010 16:00:00 GMT",
        "Fri, 00 Jan 2010 16:00:00 GMT", "Fri, 01 Jan 0000 16:00:00 GMT", "Fri, 01 Jan 2010 24:00:00 GMT",
        "Fri, 01 Jan 2010 16:60:00 GMT", "Fri, 01 Jan 2010 16:00:60 GMT", "Fri, ٠١ Jan 2010 16:00:00 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ParseError):
        parse_date(text)


# -- A shape takes nothing that the general parser does not take in the same way ---------------------------------------

_VIA_PIECES = [
    "SIP/2.0/UDP ", "SIP/2.0/TCP ", "SIP/2.0/udp ", "192.0.2.1", "a.example.com", "a..b", "300.1.1.1", "h",
    "[::1]", ":5060",
    ":0", ":99999", ";branch=z9hG4bKx", ";branch", ";branch=", ";Branch=y", ";branches=1", ";rport", ";rport=1", ";x",
    ';x="a"', ";received=192.0.2.1", ";received=::1", ";", ",", " ", "\t", "=", "é", "\0", "K",
]  # fmt: skip
_NAME_ADDR_PIECES = [
    '"Bob" ', '"', "Bob", " ", "<", ">", "<sip:bob@example.com>", "<sips:a@192.0.2.1:5060;x=y>", "sip:a@b",
    "<sip:", "a@", "b",
    "a..b", "[::1]", ":0", ":5060", ":99999", "%41", "%4", ";tag=x", ";tag=", ";Tag=y", ";x=1", ';x="a"',
    "?a=b", "\\", "\t", ",",
    "é", "\x7f", "\0", "tel:1",
]  # fmt: skip


def _joined(pieces: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces) | st.characters(max_codepoint=0x2FF), max_size=7).map("".join)


@given(_joined(_VIA_PIECES).map("SIP/2.0/UDP h".__add__) | _joined(_VIA_PIECES))
def test_the_shape_of_a_via_agrees_with_the_general_parser(text: str) -> None:
    assert _outcome(parse_via, text) == _outcome(fields._parse_via, text)  # pyright: ignore[reportPrivateUsage]


@given(_joined(_NAME_ADDR_PIECES))
def test_the_shape_of_a_name_addr_agrees_with_the_general_parser(text: str) -> None:
    assert _outcome(parse_name_addr, text) == _outcome(fields._parse_name_addr, text)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "text",
    [
        "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport",
        "SIP/2.0/TCP pc33.example.com;rport=5060;received=192.0.2.1;branch=z9hG4bK-1.2_3",
        "SIP/2.0/TLS h:65535;branch=b;alias",
    ],
)
def test_what_real_traffic_has_is_a_via_of_the_shape(text: str) -> None:
    assert fields._VIA_SHAPE.fullmatch(text)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "text",
    ['"Alice" <sip:alice@example.com>;tag=88sja8x', "<sip:bob@192.0.2.1:5060;transport=tcp>", "Bob <sip:%62@h>;tag=1"],
)
def test_what_real_traffic_has_is_a_name_addr_of_the_shape(text: str) -> None:
    assert fields._NAME_ADDR_SHAPE.fullmatch(text)  # pyright: ignore[reportPrivateUsage]


def _outcome(parse: Callable[[str], object], text: str) -> object:
    try:
        return parse(text)
    except ParseError:
        return ParseError


# -- Worst cases -------------------------------------------------------------------------------------------------------

_PIECES = [
    " ", "\t", ";", ",", '"', "\\", '\\"', '"",', "<", ">", "<>", "<,>", "a", "a ", "a=", ";a", "; a", ";a=",
    ';a="b"', ";rport",
    "; rport ", ";branch=b", ";tag=t", "1", ":", ".", "a.", "-", "a-", "%41", "*,", "a,", "/", "é", "[::1]",
    "<sip:a@b>,",
]  # fmt: skip
_STARTS = ["", "SIP/2.0/UDP h", "SIP/2.0/UDP h;x=", "<sip:a@b>", '"', "<sip:", "text/plain", "1", "a"]


def _parse_contact(text: str) -> object:
    return parse_contacts([text], Limits(uri_bytes_max=1_000_000))


def _complete_via(text: str) -> object:
    return parse_via(text).completed(";received=192.0.2.1;rport=5060")


_PARSERS: list[Callable[[str], object]] = [
    parse_via,
    parse_name_addr,
    parse_cseq,
    parse_call_id,
    parse_media_type,
    parse_date,
    parse_delta_seconds,
    split_list,
    split_first,
    _parse_contact,
    _complete_via,
]


@pytest.mark.parametrize("start", _STARTS)
@pytest.mark.parametrize("parse", _PARSERS)
def test_hostile_values_take_linear_time(parse: Callable[[str], object], start: str) -> None:
    def parse_all(size: int) -> None:
        for piece in _PIECES:
            with contextlib.suppress(PeerError):
                parse(start + piece * (size // len(piece)) + "\0")

    assert growth(parse_all) < 32
