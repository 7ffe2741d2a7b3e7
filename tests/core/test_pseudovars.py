"""Pseudo-variables in settings: each name, what is not there, what is no template."""

from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest

from msilo_core import Flow, LocalError, Moment, Request, parse_message
from msilo_core.pseudovars import AvpValue, ctime, parse_avp_name, parse_template

ROME = ZoneInfo("Europe/Rome")

REQUEST = (
    b"MESSAGE sip:bob@example.com:5070;user=phone SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1\r\n"
    b'From: "Alice \\"A\\" <x>" <sip:alice@atlanta.example.com>;tag=f1\r\n'
    b"To: Bob B <sip:robert@biloxi.example.com>;tag=t1\r\n"
    b"Call-ID: c1@atlanta.example.com\r\n"
    b"CSeq: 42 MESSAGE\r\n"
    b"Contact: <sip:alice@192.0.2.4>\r\n"
    b"User-Agent: Softphone/1.0 (beta)\r\n"
    b"Subject: lunch\r\n"
    b"Content-Type: text/plain;charset=utf-8\r\n"
    b"Content-Length: 6\r\n\r\n"
    b"Hi\r\nX:"
)
BARE = (
    b"MESSAGE sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1\r\nFrom: tel:+1;tag=f\r\n"
    b"To: <sip:example.com>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n"
)


class Facts(NamedTuple):
    """A scope of pseudo-variables."""

    request: Request
    flow: Flow = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.4", 5071))
    avps: dict[str, AvpValue] = {"due": 20261231235959, "who": "carol"}  # noqa: RUF012
    variables: dict[str, AvpValue] = {"x": "y"}  # noqa: RUF012
    flags: frozenset[int] = frozenset({1, 4})
    status: int = 480
    reason: str = "Away"
    now: Moment = Moment(0, 1_795_388_312_000)
    zone: ZoneInfo = ROME

    @property
    def request_uri(self) -> str:
        return self.request.request_uri


def facts(data: bytes = REQUEST) -> Facts:
    request = parse_message(data)
    assert isinstance(request, Request)
    return Facts(request)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("$ru", "sip:bob@example.com:5070;user=phone"), ("$rU", "bob"), ("$rd", "example.com"), ("$rp", "5070"),
        ("$du", "<null>"), ("$fu", "sip:alice@atlanta.example.com"), ("$fU", "alice"), ("$fd", "atlanta.example.com"),
        ("$fn", '"Alice \\"A\\" <x>"'), ("$ft", "f1"), ("$tu", "sip:robert@biloxi.example.com"), ("$tU", "robert"),
        ("$td", "biloxi.example.com"), ("$tn", "Bob B"), ("$tt", "t1"), ("$ci", "c1@atlanta.example.com"),
        ("$cs", "42"), ("$rm", "MESSAGE"), ("$rs", "480"), ("$rr", "Away"), ("$si", "192.0.2.4"), ("$sp", "5071"),
        ("$Ri", "192.0.2.1"), ("$Rp", "5060"), ("$pr", "udp"), ("$ct", "<sip:alice@192.0.2.4>"), ("$cl", "6"),
        ("$cT", "text/plain;charset=utf-8"), ("$ua", "Softphone/1.0 (beta)"), ("$rb", "Hi\r\nX:"), ("$bf", "0"),
        ("$mf", "18"), ("$Ts", "1795388312"), ("$Tf", "Sun Nov 22 23:58:32 2026"), ("$TF", "Sun Nov 22 23:58:32 2026"),
        ("$hdr(Subject)", "lunch"), ("$hdr(subject)", "lunch"), ("$hdr(X-None)", "<null>"), ("$avp(who)", "carol"),
        ("$avp(s:due)", "20261231235959"), ("$avp(none)", "<null>"), ("$var(x)", "y"), ("$var(none)", "0"), ("$$", "$"),
        ("$(fu)", "sip:alice@atlanta.example.com"), ("$(hdr(Subject))", "lunch"),
    ],
)  # fmt: skip
def test_value(name: str, value: str) -> None:
    assert parse_template(name).render(facts()) == value
    assert parse_template(f"<{name}>, {name}").render(facts()) == f"<{value}>, {value}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("$rU", "<null>"), ("$rp", "5060"), ("$fU", "<null>"), ("$fn", "<null>"), ("$tn", "<null>"), ("$tt", "<null>"),
        ("$ct", "<null>"), ("$cl", "<null>"), ("$cT", "<null>"), ("$ua", "<null>"), ("$rb", ""),
    ],
)  # fmt: skip
def test_value_that_is_not_there(name: str, value: str) -> None:
    assert parse_template(name).render(facts(BARE)) == value


def test_outside_a_failure_route_nothing_came_back() -> None:
    scope = facts()._replace(status=0, reason="")
    assert parse_template("$rs $rr").render(scope) == "<null> <null>"


def test_header_line_stays_one() -> None:
    assert parse_template("X-Body: $rb\r\n").render_lines(facts()) == "X-Body: Hi  X:\r\n"


@pytest.mark.parametrize("text", ["", "no variable", "sip:bob@example.com", "50 %", "(a)"])
def test_text_stays_as_it_is(text: str) -> None:
    assert parse_template(text).render(facts()) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("$xx", r"the pseudo-variable \$xx in '\$xx' is not known: known are \$ru \$rU"),
        ("hello $fu2", r"the pseudo-variable \$fu2"),
        ("$(fu{s.len})", r"the pseudo-variable \$fu{s.len}"),
        ("$hdr()", r"the pseudo-variable \$hdr\(\)"),
        ("$avp", r"the pseudo-variable \$avp in"),
        ("$", r"a dollar sign stands alone in '\$': write \$\$ for one"),
        ("5 $ each", "a dollar sign stands alone"),
    ],
)
def test_what_is_no_template(text: str, complaint: str) -> None:
    with pytest.raises(LocalError, match=complaint):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "name"), [("$avp(snd_time)", "snd_time"), (" $avp( s:x ) ", "x"), ("$(avp(i:5))", "i:5")]
)
def test_name_of_an_avp(text: str, name: str) -> None:
    assert parse_avp_name(text) == name


@pytest.mark.parametrize("text", ["snd_time", "$avp()", "$avp(a b)", "$var(x)", "avp(x)"])
def test_what_names_no_avp(text: str) -> None:
    with pytest.raises(LocalError, match="is no AVP: give one such as"):
        parse_avp_name(text)


def test_times_are_printed_as_c_prints_them() -> None:
    assert ctime(0, ZoneInfo("UTC")) == "Thu Jan  1 00:00:00 1970"
    # Summer time.
    assert ctime(1_785_000_000, ROME) == "Sat Jul 25 19:20:00 2026"
