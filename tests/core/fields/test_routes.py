"""Route, Record-Route, Path, Service-Route."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import Hop, parse_hops
from msilo_core.limits import Limits
from msilo_core.uri import parse_uri
from tests.core.fields.strategies import params, texts
from tests.core.uris import uris


def _hop(uri_text: str, params: str = "", display_name: str = "") -> Hop:
    return Hop(parse_uri(uri_text, Limits(uri_bytes_max=10_000)), uri_text, params, display_name)


@pytest.mark.parametrize(
    ("values", "hops"),
    [
        ([], ()),
        (["", " , ,"], ()),
        (["<sip:p1.example.com;lr>"], (_hop("sip:p1.example.com;lr"),)),
        (
            ["<sip:alice@atlanta.com>, <sip:bob@biloxi.com>", " <sip:carol@chicago.com>\t"],
            (_hop("sip:alice@atlanta.com"), _hop("sip:bob@biloxi.com"), _hop("sip:carol@chicago.com")),
        ),
        (
            ['"Big, \\"Iron\\"" <sips:a,b@[2001:db8::1]:5061;lr>;x=",";y , Proxy Two<SIP:p2;LR=on?a=b>'],
            (
                _hop("sips:a,b@[2001:db8::1]:5061;lr", ';x=",";y', 'Big, "Iron"'),
                _hop("SIP:p2;LR=on?a=b", "", "Proxy Two"),
            ),
        ),
        # RFC 4475 section 3.1.1.1, the Route that was folded.
        (
            ["<sip:services.example.com;lr;unknownwith=value;unknown-no-value>"],
            (_hop("sip:services.example.com;lr;unknownwith=value;unknown-no-value"),),
        ),
    ],
)
def test_hops(values: list[str], hops: tuple[Hop, ...]) -> None:
    assert parse_hops(values) == hops


@pytest.mark.parametrize(
    "text",
    [
        "sip:p1.example.com", "sip:p1.example.com;lr", "Proxy", "*", "<>", "<tel:+1201>", "<http://example.com>",
        "<sip:p1.example.com", "<sip:p1.example.com>;", "<sip:p1.example.com>;;lr", "<sip:p1.example.com> lr",
        "<sip:a@a..b>", "<sip:a b>", "< sip:p1.example.com>", "<sip:p1.example.com>>", "<sip:p1:0>",
    ],
)  # fmt: skip
def test_what_is_no_hop(text: str) -> None:
    with pytest.raises(ParseError):
        parse_hops([f"<sip:p0.example.com;lr>, {text}"])


@pytest.mark.parametrize(
    ("text", "is_loose"),
    [
        ("<sip:p1;lr>", True),
        ("<sip:p1;transport=tcp;LR>", True),
        ("<sip:p1;lr=on>", True),
        ("<sip:p1>", False),
        ("<sip:p1;lrx>", False),
        # Behind the bracket it is a parameter of the header, and says nothing.
        ("<sip:p1>;lr", False),
    ],
)
def test_a_hop_is_loose_if_its_uri_says_so(text: str, is_loose: bool) -> None:
    (hop,) = parse_hops([text])
    assert hop.is_loose is is_loose


def test_the_parameters_of_a_hop() -> None:
    (hop,) = parse_hops(['<sip:p1;lr>;a="x;\\"y\\"";B=c;d'])

    assert [hop.param(name) for name in ("A", "b", "d", "e")] == ['x;"y"', "c", "", None]


@given(st.lists(st.builds(_hop, uris.map(str), params(), texts), max_size=3))
def test_hops_are_written_as_they_are_read(hops: list[Hop]) -> None:
    assert parse_hops([str(hop) for hop in hops]) == tuple(hops)
    assert parse_hops([", ".join(map(str, hops))]) == tuple(hops)
