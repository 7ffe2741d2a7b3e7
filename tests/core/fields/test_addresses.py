"""From, To, Contact and headers of their form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import LocalError, ParseError, ValueTooLong
from msilo_core.fields import (
    STAR,
    CallInfo,
    Contact,
    FeatureToken,
    NameAddr,
    parse_call_info,
    parse_contacts,
    parse_name_addr,
)
from msilo_core.fields import addresses as module
from msilo_core.limits import Limits
from msilo_core.tel import TelUri
from msilo_core.uri import SipUri, parse_uri
from tests.core.fields.strategies import params, texts, tokens
from tests.core.shapes import joined, outcome
from tests.core.uris import tel_uris, uris


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


def test_the_uri_of_a_telephone() -> None:
    for text in ("<tel:+1-201-555-0123>;tag=t", "Bob <tel:*31#;phone-context=+1>", "tel:+1-201"):
        assert isinstance(parse_name_addr(text).any_uri, TelUri)
    assert parse_name_addr("<sip:bob@example.com>").any_uri == parse_uri("sip:bob@example.com")
    # No other scheme, and no tel URI that is not one.
    for text in ("<http://www.example.com>", "<tel:7042>", "<tel:bob>", "<tel:+1;ext=x>"):
        with pytest.raises(ParseError) as caught:
            _ = parse_name_addr(text).any_uri
        assert caught.value.status_hint == 400


def test_the_parameters_of_an_address() -> None:
    address = parse_name_addr('<sip:a@b;x=1>;tag=t;Y="\\"z;\\"";w')

    assert [address.param(name) for name in ("TAG", "y", "w", "x")] == ["t", '"z;"', "", None]


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
            display_name='Quoted, string ""',
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

    # The shape, and the general parser.
    for blanks in ("", " "):
        (contact,) = _contacts(f"{blanks}<sip:a@b.com>", limits)
        assert contact.uri_text == "sip:a@b.com"
        with pytest.raises(ValueTooLong) as caught:
            parse_contacts([f"{blanks}<sip:ab@b.com>"], limits)
        assert caught.value.status_hint == 400


def _contacts(text: str, limits: Limits | None = None) -> tuple[Contact, ...]:
    contacts = parse_contacts([text], limits or Limits())
    assert contacts is not STAR
    return contacts


def test_what_a_device_can_do() -> None:
    (contact,) = _contacts('<sip:a@b>;expires=60;Methods="INVITE, MESSAGE";+sip.instance="<urn:x>";audio')

    assert list(contact.features) == ["methods", "+sip.instance", "audio"]
    assert contact.features["methods"] == (FeatureToken("INVITE"), FeatureToken("MESSAGE"))
    assert contact.param("expires") == "60"


# -- Call-Info and its like --------------------------------------------------------------------------------------------


def test_call_info() -> None:
    # RFC 3261 section 20.9.
    info = parse_call_info(
        [
            "<http://wwww.example.com/alice/photo.jpg> ;purpose=icon, <http://www.example.com/alice/> ;purpose=info",
            ",<sip:announce-2@example.com>",
        ]
    )

    assert info == (
        CallInfo("http://wwww.example.com/alice/photo.jpg", ";purpose=icon"),
        CallInfo("http://www.example.com/alice/", ";purpose=info"),
        CallInfo("sip:announce-2@example.com"),
    )
    assert [value.param("Purpose") for value in info] == ["icon", "info", None]
    assert parse_call_info([]) == ()


@pytest.mark.parametrize(
    "text",
    ["http://x", "<>", "<x>", "Bob <http://x>", '"Bob" <http://x>', "<http://x> y", "<http://x>;", "<http://x", "*"],
)
def test_what_is_no_call_info(text: str) -> None:
    with pytest.raises(ParseError):
        parse_call_info([f"<http://a>, {text}"])


# -- What is written is read -------------------------------------------------------------------------------------------


@given(uris.map(str) | tel_uris().map(str) | st.just("urn:uuid:x"), texts, params(("tag", tokens)))
def test_a_name_addr_is_written_as_it_is_read(uri_text: str, display_name: str, params: str) -> None:
    address = parse_name_addr(f"<{uri_text}>{params}")
    address = NameAddr(display_name, address.uri_text, address.tag, params)

    assert parse_name_addr(str(address)) == address


@given(
    uris,
    texts,
    st.none() | st.integers(0, 1000),
    st.none() | st.integers(0, 2**32 - 1),
    st.integers(0, 2**31 - 1),
    params(without=("q", "expires")),
)
def test_contacts_are_written_as_they_are_read(
    uri: SipUri, display_name: str, q: int | None, expires_s: int | None, reg_id: int, others: str
) -> None:
    written = "" if q is None else f";q={q // 1000}.{q % 1000:03}"
    written += "" if expires_s is None else f";expires={expires_s}"
    contact = Contact(
        uri,
        str(uri),
        f'{written};reg-id={reg_id};+sip.instance="<urn:x>";methods="A,B"{others}',
        q,
        expires_s,
        "<urn:x>",
        reg_id,
        "A,B",
        display_name,
    )

    limits = Limits(uri_bytes_max=100_000)
    assert parse_contacts([str(contact)], limits) == (contact,)
    assert parse_contacts([f"{contact},,{contact}"], limits) == (contact, contact)


@given(st.lists(st.builds(CallInfo, uris.map(str) | st.just("http://x/y?a=b"), params()), max_size=3))
def test_call_info_is_written_as_it_is_read(info: list[CallInfo]) -> None:
    assert parse_call_info([",".join(map(str, info))]) == tuple(info)


def test_no_display_name_says_a_line_break() -> None:
    with pytest.raises(LocalError):
        str(NameAddr("a\r\nb", "sip:a@b", "", ""))


# -- A shape takes nothing that the general parser does not take in the same way ---------------------------------------

_PIECES = [
    '"Bob" ', '"', "Bob", " ", "<", ">", "<sip:bob@example.com>", "<sips:a@192.0.2.1:5060;x=y>", "sip:a@b",
    "<sip:", "a@", "b",
    "a..b", "[::1]", ":0", ":5060", ":99999", "%41", "%4", ";tag=x", ";tag=", ";Tag=y", ";x=1", ';x="a"',
    "?a=b", "\\", "\t", ",",
    "é", "\x7f", "\0", "tel:1",
]  # fmt: skip


@given(joined(_PIECES))
def test_the_shape_of_a_name_addr_agrees_with_the_general_parser(text: str) -> None:
    assert outcome(parse_name_addr, text) == outcome(module._parse_name_addr, text)  # pyright: ignore[reportPrivateUsage]


_CONTACT_PARAMS = [
    ";expires=60", ";expires", ";Expires=7", ";expires=x", ";q=0.5", ";q=2", ";q", ';+sip.instance="<urn:uuid:1>"',
    ";reg-id=1", ";reg-id=x", ';methods="A, B"', ";methods=A", ';x="a;b"', ';x="a\\"b"', ";x=[::1]", ",<sip:c@d>", ", ",
    "*",
]  # fmt: skip


@given(joined(_CONTACT_PARAMS).map("<sip:bob@192.0.2.1:5060>".__add__) | joined(_PIECES + _CONTACT_PARAMS))
def test_the_shape_of_a_contact_agrees_with_the_general_parser(text: str) -> None:
    def general(text: str) -> object:
        # Of two lines neither is tried as a shape, and an empty one holds nothing.
        return parse_contacts([text, ""])

    assert outcome(lambda text: parse_contacts([text]), text) == outcome(general, text)


@pytest.mark.parametrize(
    "text",
    [
        "<sip:bob@192.0.2.1:5060>",
        '"Bob" <sip:bob@192.0.2.1:45060;transport=tcp;ob>;expires=3600;q=0.7',
        '<sip:bob@a-b.example.com>;+sip.instance="<urn:uuid:0-1-8-A>";reg-id=1;methods="A, B";audio',
    ],
)
def test_what_real_traffic_has_is_a_contact_of_the_shape(text: str) -> None:
    assert module._CONTACT_SHAPE.fullmatch(text)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "text",
    [
        '"Alice" <sip:alice@example.com>;tag=88sja8x',
        "<sip:bob@192.0.2.1:5060;transport=tcp>",
        "Bob <sip:+1-2.3*_b@a-b.3c.x:65000>;tag=1",
        "<sips:10.0.0.255:5061>",
    ],
)
def test_what_real_traffic_has_is_a_name_addr_of_the_shape(text: str) -> None:
    assert module._NAME_ADDR_SHAPE.fullmatch(text)  # pyright: ignore[reportPrivateUsage]
