"""SIP URIs (RFC 3261 section 19.1) and addresses of record."""

import contextlib
import ipaddress
import re
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core import uri as module
from msilo_core.errors import ParseError, PeerError, Unsupported, UriTooLong
from msilo_core.grammar import normalise_escapes, normalise_host
from msilo_core.limits import Limits
from msilo_core.uri import Aor, SipUri, check_uri, parse_aor, parse_uri
from tests.core.shapes import joined, outcome
from tests.core.uris import hosts, uris
from tests.core.wire import growth

_UNRESERVED = string.ascii_letters + string.digits + "-_.!~*'()"


@given(uris)
def test_what_the_grammar_allows_is_taken_apart_and_put_together_again(uri: SipUri) -> None:
    assert parse_uri(str(uri), Limits(uri_bytes_max=10_000)) == uri
    check_uri(str(uri))


@given(uris)
def test_the_case_of_scheme_and_host_does_not_matter(uri: SipUri) -> None:
    other = msgspec.structs.replace(uri, host=uri.host.swapcase())
    scheme, _, rest = str(other).partition(":")

    assert parse_uri(f"{scheme.upper()}:{rest}", Limits(uri_bytes_max=10_000)).equivalent(uri)


@given(st.text(max_size=40) | st.text(alphabet="sip:@.;=?&[]%41a/\x00\n ", max_size=40).map("sip:a".__add__))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        uri = parse_uri(text)
    except PeerError:
        return
    assert parse_uri(str(uri)) == uri


def test_the_parts_of_a_uri() -> None:
    uri = parse_uri("SIPS:alice;day=tue:pass,word@[2001:db8::10]:5061;Transport=TCP;lr;maddr=192.0.2.1?to=a&x=")

    assert uri == SipUri(
        "sips", "alice;day=tue", "pass,word", "[2001:db8::10]", 5061, ";Transport=TCP;lr;maddr=192.0.2.1", "?to=a&x="
    )
    assert uri.transport == "tcp"
    assert uri.maddr == "192.0.2.1"
    assert uri.param("LR") == ""
    assert uri.param("ob") is None
    assert str(uri).startswith("sips:alice;day=tue:pass,word@[2001:db8::10]:5061;")


def test_a_uri_without_parameters_has_none() -> None:
    uri = parse_uri("sip:example.com")

    assert uri == SipUri("sip", None, None, "example.com", None)
    assert uri.transport is None
    assert uri.maddr is None


def test_of_two_parameters_with_one_name_the_first_counts() -> None:
    assert parse_uri("sip:a@b;transport=udp;Transport=tcp").transport == "udp"
    assert parse_uri("sip:a@b;%74ransport=udp;transport=tcp").transport == "udp"


def test_escapes_in_parameters_stand_for_what_they_encode() -> None:
    # RFC 4475 section 3.1.1.3: "the "name" uri-parameter has a value of "value%41"".
    uri = parse_uri("sip:caller@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31;%4D%61ddr=192%2E0.2.1;x=%00%ff")

    assert uri.param("lr") == ""
    assert uri.param("name") == "value%41"
    assert uri.maddr == "192.0.2.1"
    assert uri.param("x") == "\0\udcff"
    assert uri.param("%6c%72") is None
    assert str(uri).endswith(";%6C%72;n%61me=v%61lue%25%34%31;%4D%61ddr=192%2E0.2.1;x=%00%ff")


@pytest.mark.parametrize(
    "text",
    [
        "", "sip", "sip:", "sip:@example.com", "sip::pw@example.com", "sip:a@", "sip:a@b@c", "sip:a b@c", "sip:a@b c",
        " sip:a@b", "sip:a@b ", "sip:a@b:", "sip:a@b:0", "sip:a@b:65536", "sip:a@b:5060x", "sip:a@b:٣", "sip:a@a..b",
        "sip:a@b;", "sip:a@b;;lr", "sip:a@b;=x", "sip:a@b;x=", "sip:a@b;x==y", "sip:a@b; lr", "sip:a@b?", "sip:a@b?x",
        "sip:a@b?=x", "sip:a@b?x=y&", "sip:a%4@b", "sip:a%4g@b", "sip:a\\b@c", "sip:\"a\"@b", "sip:<a@b>", "<sip:a@b>",
        "sip:2001:db8::10", "sip:[2001:db8::10", "sip:[1::2::3]", "sip:[fe80::1%25eth0]", "sip:é@b", "sip:a@b\n",
        "sip:a@b;x=\0", "bob@example.com", "tel:", ":x", "1tel:x", "tel:é", "tel:a b", "ſip:a@b",
    ],
)  # fmt: skip
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(ParseError):
        parse_uri(text)
    with pytest.raises(ParseError):
        check_uri(text)


@pytest.mark.parametrize(
    "text",
    [
        "tel:+1-201-555-0123", "im:bob@example.com", "http://[2001:db8::1]:8080/a?b=c", "soap.beep://192.0.2.103:3002",
        "nobodyKnowsThisScheme:totallyopaquecontent", "sipfoo:a@b", "urn:uuid:f81d4fae",
    ],
)  # fmt: skip
def test_another_scheme_is_told_from_nonsense(text: str) -> None:
    check_uri(text)
    with pytest.raises(Unsupported) as caught:
        parse_uri(text)
    assert caught.value.status_hint == 416


def test_the_length_of_a_uri_is_bounded() -> None:
    limits = Limits(uri_bytes_max=20)

    assert parse_uri("sip:alice@example.co", limits).user == "alice"
    with pytest.raises(UriTooLong) as caught:
        parse_uri("sip:alice@example.com", limits)
    assert (caught.value.size, caught.value.limit, caught.value.status_hint) == (21, 20, 414)


# -- Addresses of record -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "aor"),
    [
        ("sip:bob@example.com", Aor("bob", "example.com")),
        ("sips:bob:secret@EXAMPLE.com.:5061;transport=tcp?x=y", Aor("bob", "example.com")),
        ("sip:Bob@example.com", Aor("Bob", "example.com")),
        ("sip:%62%6Fb@example.com", Aor("bob", "example.com")),
        ("sip:I%20have%20spaces@example.net", Aor("I have spaces", "example.net")),
        ("sip:sips%3Auser%40example.com@example.net", Aor("sips:user@example.com", "example.net")),
        ("sip:%d0%b6%d1%83%d0%ba@example.com", Aor("жук", "example.com")),
        ("sip:value%25%34%31@example.com", Aor("value%41", "example.com")),
        ("sip:+12015550123;phone-context=x@[2001:DB8::0:1]", Aor("+12015550123;phone-context=x", "[2001:db8::1]")),
    ],
)
def test_the_address_of_record_of_a_uri(text: str, aor: Aor) -> None:
    assert parse_uri(text).aor() == aor


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com", "sip:null-%00-null@example.com", "sip:%0D%0A@example.com", "sip:%7F@example.com",
        "sip:%C2%85@example.com", "sip:%FF@example.com", "sip:%ED%A0%80@example.com", "sip:%C0%80@example.com",
    ],
)  # fmt: skip
def test_uris_that_name_no_inbox(text: str) -> None:
    uri = parse_uri(text)

    with pytest.raises(ParseError):
        uri.aor()


def test_user_and_host_of_an_address_of_record_are_bounded() -> None:
    limits = Limits(user_bytes_max=8)

    assert parse_uri("sip:bobbobbo@example1").aor(limits) == Aor("bobbobbo", "example1")
    # Four characters of two octets each, then one octet more.
    assert parse_uri("sip:%C3%A9%C3%A9%C3%A9%C3%A9@example").aor(limits).username == "éééé"
    for text in ("sip:bobbobbob@example", "sip:bob@example.a", "sip:x%C3%A9%C3%A9%C3%A9%C3%A9@example"):
        with pytest.raises(UriTooLong):
            parse_uri(text).aor(limits)


@pytest.mark.parametrize(
    "text", ["bob@example.com", "sip:bob@example.com", "SIPS:bob@Example.com", "bob@example.com.:5060"]
)
def test_an_operator_may_leave_out_the_scheme(text: str) -> None:
    assert parse_aor(text) == Aor("bob", "example.com")


@pytest.mark.parametrize(
    "text", ["", "bob", "example.com", "tel:+1201", "bob@", "<sip:bob@example.com>", "b ob@example.com"]
)
def test_what_an_operator_may_not_write(text: str) -> None:
    with pytest.raises(ParseError):
        parse_aor(text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30), hosts)
def test_an_address_of_record_is_written_as_a_uri_that_names_it(username: str, host: str) -> None:
    aor = SipUri("sip", "x", None, host, None).aor()
    aor = Aor(username, aor.domain)

    assert parse_aor(str(aor)) == aor


def test_an_ordinary_address_of_record_is_written_without_escapes() -> None:
    assert str(Aor("bob+tag;x=1", "example.com")) == "sip:bob+tag;x=1@example.com"
    assert str(Aor("a b@c", "example.com")) == "sip:a%20b%40c@example.com"


# -- Section 19.1.4, its examples and those of RFC 5954 section 4.2 ----------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:bob@[::ffff:192.0.2.128]", "sip:bob@[::ffff:c000:280]"),
        ("sip:bob@[2001:db8::9:1]", "sip:bob@[2001:db8::9:01]"),
        ("sip:bob@[0:0:0:0:0:FFFF:129.144.52.38]", "sip:bob@[::FFFF:129.144.52.38]"),
        ("sip:bob@192.0.2.128", "sip:bob@192.00.02.128"),
        # RFC 5118 section 4.10.
        ("sip:user@[2001:db8:::192.0.2.1]", "sip:user@[2001:db8::192.0.2.1]"),
        ("sip:a%2fb@example.com", "sip:a%2Fb@example.com"),
        ("sip:a@b;x=%5B::1%5d", "sip:a@b;X=[::1]"),
        ("sip:a@b;%6Cr;x=1", "sip:a@b;x=1;lr"),
        # Of a parameter that stands twice the first counts, however it is written.
        ("sip:a@b;x=1;%78=2", "sip:a@b;X=1"),
        ("sip:a@b?i=X&s=hi", "sip:a@b?Subject=HI&Call-ID=X"),
        ("SIP:a@b.", "sip:a@b"),
    ],
)
def test_equivalent(left: str, right: str) -> None:
    assert parse_uri(left).equivalent(parse_uri(right))
    assert parse_uri(right).equivalent(parse_uri(left))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
        ("sip:bob@biloxi.com", "sip:biloxi.com"),
        ("sip:bob@biloxi.com", "sip:bob:@biloxi.com"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;user=phone"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;ttl=1"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;method=INVITE"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;maddr=192.0.2.1"),
        ("sip:a%2fb@example.com", "sip:a/b@example.com"),
        ("sip:a%2541@example.com", "sip:a%41@example.com"),
        ("sip:a:b@example.com", "sip:a:B@example.com"),
        ("sip:a@b?x=1", "sip:a@b?x=1&x=1"),
        # Section 20.8: "Call-IDs are case-sensitive"; and a body is one octet by octet.
        ("sip:a@b?call-id=x", "sip:a@b?call-id=X"),
        ("sip:a@b?body=hi", "sip:a@b?body=HI"),
        ("sip:192.0.2.1", "sip:[::ffff:192.0.2.1]"),
        # RFC 5118 sections 4.3 and 4.4: what looks like a port is part of the address.
        ("sip:[2001:db8::10:5070]", "sip:[2001:db8::10]:5070"),
    ],
)
def test_not_equivalent(left: str, right: str) -> None:
    assert not parse_uri(left).equivalent(parse_uri(right))
    assert not parse_uri(right).equivalent(parse_uri(left))


def test_equivalence_is_not_transitive() -> None:
    # "Note that equality is not transitive", with this example.
    carol, on, off = (
        parse_uri(f"sip:carol@chicago.com{security}") for security in ("", ";security=on", ";security=off")
    )

    assert carol.equivalent(on)
    assert carol.equivalent(off)
    assert not on.equivalent(off)


@given(uris)
def test_every_uri_is_equivalent_to_itself(uri: SipUri) -> None:
    assert uri.equivalent(uri)


@given(uris, st.data())
def test_a_uri_written_in_another_way_is_equivalent(uri: SipUri, data: st.DataObject) -> None:
    other = data.draw(_spellings(uri))

    assert parse_uri(str(other), Limits(uri_bytes_max=10_000)) == other
    assert uri.equivalent(other)
    assert other.equivalent(uri)


# Few words, so that many pairs are equivalent.
_values = st.sampled_from(["", "=a", "=A", "=%61", "=b"])
_param_names = st.sampled_from(["x", "X", "y", "ttl", "maddr"])
_scarce = st.builds(
    SipUri,
    st.sampled_from(["sip", "sip", "sips"]),
    st.sampled_from([None, "a", "%61", "A"]),
    st.none(),
    st.sampled_from(["h", "H", "h.", "[::1]", "[0::1]"]),
    st.sampled_from([None, None, 5060]),
    st.lists(st.builds("{}{}".format, _param_names.map(";{}".format), _values), max_size=3).map("".join),
)


@given(_scarce, _scarce)
def test_equivalence_is_symmetric(left: SipUri, right: SipUri) -> None:
    assert left.equivalent(right) == right.equivalent(left)


@given(_scarce, st.lists(st.sampled_from(["x", "y", "ttl", "maddr"]), unique=True, max_size=2), st.data())
def test_equivalence_is_transitive_among_uris_with_the_same_parameters(
    uri: SipUri, names: list[str], data: st.DataObject
) -> None:
    def drawn() -> SipUri:
        params = "".join(f";{name}{data.draw(_values)}" for name in names)
        return data.draw(_spellings(msgspec.structs.replace(uri, params=params)))

    first, second, third = drawn(), drawn(), drawn()
    if first.equivalent(second) and second.equivalent(third):
        assert first.equivalent(third)
        assert third.equivalent(first)


@given(uris.filter(lambda uri: uri.user is not None), st.data())
def test_an_address_of_record_is_one_however_its_uri_is_written(uri: SipUri, data: st.DataObject) -> None:
    other = data.draw(_spellings(uri, reserved=True))
    try:
        aor = uri.aor()
    except PeerError as error:
        with pytest.raises(type(error)):
            other.aor()
        return

    assert other.aor() == aor
    # Neither scheme nor port, password, parameters and headers are of it.
    assert SipUri("sips", other.user, None, other.host, None).aor() == aor
    # Canonical: written as a URI it names itself.
    assert parse_aor(str(aor)) == aor
    assert str(parse_aor(str(aor))) == str(aor)


@given(*[st.text("aA/%", min_size=1, max_size=3)] * 2, hosts, hosts)
def test_two_addresses_of_record_are_one_if_what_they_say_is(left: str, right: str, host: str, other: str) -> None:
    def aor(username: str, host: str) -> Aor:
        return SipUri("sip", username.replace("%", "%25"), None, host, None).aor()

    assert (aor(left, host) == aor(right, host)) == (left == right)
    assert (aor(left, host) == aor(left, other)) == (normalise_host(host) == normalise_host(other))


@st.composite
def _spellings(draw: st.DrawFn, uri: SipUri, reserved: bool = False) -> SipUri:
    """Return a URI that section 19.1.4 makes equivalent; with `reserved`, one of the same address of record.

    Any character may then be escaped: what a user part is made of is not looked at.
    """

    def spelt(text: str, escapable: str = _UNRESERVED) -> str:
        return "".join(
            f"%{ord(piece):02X}" if piece in escapable and draw(st.integers(0, 3)) == 0 else piece
            for piece in re.findall("%..|.", text)
        )

    def cased(text: str) -> str:
        return text.swapcase() if draw(st.booleans()) else text

    host = uri.host
    if host.startswith("["):
        address = ipaddress.IPv6Address(host[1:-1])
        host = cased(f"[{draw(st.sampled_from([address.compressed, address.exploded]))}]")
    elif not host.rpartition(".")[2].isdigit():
        host = cased(host.removesuffix(".")) + draw(st.sampled_from(["", "."]))
    params = draw(st.permutations(_first_of_each(uri.params.split(";")[1:])))
    headers = draw(st.permutations(uri.headers[1:].split("&"))) if uri.headers else []
    return msgspec.structs.replace(
        uri,
        user=None if uri.user is None else spelt(uri.user, _UNRESERVED + "&=+$,;?/" if reserved else _UNRESERVED),
        password=None if uri.password is None else spelt(uri.password),
        host=host,
        params="".join(f";{cased(spelt(param))}" for param in params),
        headers="?" + "&".join(headers) if headers else "",
    )


def _first_of_each(params: list[str]) -> list[str]:
    found: dict[str, str] = {}
    for param in params:
        found.setdefault(normalise_escapes(param.partition("=")[0]).lower(), param)
    return list(found.values())


# -- Worst cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["a", "%41", "a:", "a@", ";a", ";a=b", "a.", "?a=b", "&a=b", "a-", "[", "1.", "a;", ":1"]
)
@pytest.mark.parametrize("start", ["sip:", "sip:a@b", "sip:a@b?c=d", "x:"])
def test_hostile_uris_take_linear_time(start: str, text: str) -> None:
    limits = Limits(uri_bytes_max=1_000_000)

    def refuse(size: int) -> None:
        with contextlib.suppress(PeerError):
            parse_uri(start + text * (size // len(text)) + "\0", limits)

    assert growth(refuse) < 32


def test_comparing_uris_with_many_parameters_takes_linear_time() -> None:
    def compare(size: int) -> None:
        numbers = range(size // 8)
        left = SipUri("sip", None, None, "a", None, "".join(f";p{number}=1" for number in numbers))
        right = SipUri("sip", None, None, "a", None, "".join(f";p{number}=1" for number in reversed(numbers)))
        assert left.equivalent(right)

    assert growth(compare) < 32


# -- A shape takes nothing that the general parser does not take in the same way ---------------------------------------

_PIECES = [
    "sip:", "sips:", "SIP:", "tel:", "bob", "@", "a.example.com", "a..b", "a-b", "a--b", "-", ".", "1", "3c",
    "192.0.2.1", "300.1.1.1", "010.0.0.1", "255", "256", ":", ":5060", ":65535", ":65536", ":0", ":05060", "[::1]",
    ";lr", ";transport=tcp", ";=", ";x=", "?a=b", "%41", "%4", "+", "$", "é", "\0", "K",
]  # fmt: skip


@given(joined(_PIECES) | joined(_PIECES).map("sip:bob@".__add__))
def test_the_shape_of_a_uri_agrees_with_the_general_parser(text: str) -> None:
    assert outcome(parse_uri, text) == outcome(module._parse_uri, text)  # pyright: ignore[reportPrivateUsage]


@given(uris)
def test_the_shape_agrees_on_all_that_the_grammar_allows(uri: SipUri) -> None:
    text = str(uri)
    assert parse_uri(text, Limits(uri_bytes_max=10_000)) == module._parse_uri(text)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.com", "sip:bob@192.168.255.1:5060", "sip:a;b=c@h;ob",
        "sips:+1-201.5*@a-b.3c.example:65535;transport=tcp;lr;x=[/:&+$]",
    ],
)  # fmt: skip
def test_what_real_traffic_has_is_a_uri_of_the_shape(text: str) -> None:
    assert module._SIP_URI_SHAPE.fullmatch(text)  # pyright: ignore[reportPrivateUsage]
