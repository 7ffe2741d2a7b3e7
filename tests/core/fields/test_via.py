"""Via (RFC 3261 section 20.42)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import Via, parse_sent_by, parse_via
from msilo_core.fields import via as module
from tests.core.fields.strategies import params, tokens
from tests.core.shapes import joined, outcome
from tests.core.uris import hosts


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


@given(
    tokens.map(str.upper),
    hosts,
    st.none() | st.integers(1, 65535),
    params(("branch", tokens), ("received", st.just("2001:db8::1"))),
)
def test_a_via_is_written_as_it_is_read(transport: str, host: str, port: int | None, others: str) -> None:
    via = parse_via(f"SIP/2.0/x h{others}")
    via = Via(transport, host, port, via.branch, via.params)

    assert parse_via(str(via)) == via


def test_a_via_of_another_version_is_written_as_one_of_ours() -> None:
    assert str(parse_via("sip / 7.0/udp h : 5060 ;x")) == "SIP/2.0/UDP h:5060;x"


@pytest.mark.parametrize("params", ["", ";;,;,,", ";branch=b", " , x", ";branch=a;branch=b"])
def test_who_sent_it_can_be_read_whatever_follows(params: str) -> None:
    assert parse_sent_by(f" SIP/2.0/udp [2001:db8::1]:5070{params}") == Via("UDP", "[2001:db8::1]", 5070, "", "")


@pytest.mark.parametrize("text", ["", "HTTP/1.1", "SIP/2.0/UDP ;;", "SIP/2.0/UDP [::g]", "SIP/2.0/UDP h:0"])
def test_who_sent_it_cannot_be_read(text: str) -> None:
    with pytest.raises(ParseError):
        parse_sent_by(text)


# -- A shape takes nothing that the general parser does not take in the same way ---------------------------------------

_PIECES = [
    "SIP/2.0/UDP ", "SIP/2.0/TCP ", "SIP/2.0/udp ", "192.0.2.1", "a.example.com", "a..b", "300.1.1.1", "h",
    "[::1]", ":5060",
    ":0", ":99999", ";branch=z9hG4bKx", ";branch", ";branch=", ";Branch=y", ";branches=1", ";rport", ";rport=1", ";x",
    ';x="a"', ";received=192.0.2.1", ";received=::1", ";", ",", " ", "\t", "=", "é", "\0", "K",
]  # fmt: skip


@given(joined(_PIECES).map("SIP/2.0/UDP h".__add__) | joined(_PIECES))
def test_the_shape_of_a_via_agrees_with_the_general_parser(text: str) -> None:
    assert outcome(parse_via, text) == outcome(module._parse_via, text)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "text",
    [
        "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds;rport",
        "SIP/2.0/TCP pc33.example.com;rport=5060;received=192.0.2.1;branch=z9hG4bK-1.2_3",
        "SIP/2.0/TLS h:65535;branch=b;alias",
        "SIP/2.0/UDP a-b.3c.example:5060;branch=b;keep",
    ],
)
def test_what_real_traffic_has_is_a_via_of_the_shape(text: str) -> None:
    assert module._VIA_SHAPE.fullmatch(text)  # pyright: ignore[reportPrivateUsage]
