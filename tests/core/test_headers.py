"""The typed views of a message's headers."""

import contextlib
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import (
    STAR,
    CallInfo,
    Challenge,
    CodingRange,
    Comment,
    ContactPreference,
    Credentials,
    Disposition,
    EventPackage,
    LanguageRange,
    MediaRange,
    MediaType,
    Product,
    RetryAfter,
    WarningValue,
    parse_hops,
    parse_identities,
    parse_name_addr,
    parse_via,
)
from msilo_core.head import COMPACT
from msilo_core.headers import Headers
from msilo_core.message import tokenise
from tests.core.samples import changed, messages

# By view: header, lines, what the view says, what it says of a message without such a header, and a value that is none.
_VIEWS: dict[str, tuple[str, list[str], object, object, str]] = {
    "accept": (
        "Accept",
        ["text/plain;q=0.5, */*", "message/cpim"],
        (MediaRange("text", "plain", ";q=0.5"), MediaRange("*", "*"), MediaRange("message", "cpim")),
        None,
        "text",
    ),
    "accept_contact": (
        "Accept-Contact",
        ["*;audio, *", "*;video;require"],
        (ContactPreference(";audio"), ContactPreference(), ContactPreference(";video;require")),
        (),
        "audio",
    ),
    "accept_encoding": (
        "Accept-Encoding", ["gzip", "*;q=0"], (CodingRange("gzip"), CodingRange("*", ";q=0")), None, "/",
    ),
    "accept_language": ("Accept-Language", ["da, EN"], (LanguageRange("da"), LanguageRange("en")), None, "e_n"),
    "alert_info": ("Alert-Info", ["<http://x/y.wav>"], (CallInfo("http://x/y.wav"),), (), "http://x"),
    "allow": ("Allow", ["INVITE, ACK", "MESSAGE"], ("INVITE", "ACK", "MESSAGE"), None, "a b"),
    "authorization": (
        "Authorization",
        ['Digest username="b", nc=00000001', "Basic x"],
        (Credentials(username="b", nc="00000001"), Credentials(scheme="Basic", params="x")),
        (),
        "Digest x",
    ),
    "call_info": ("Call-Info", ["<a:b>;x=y", "<c:d>"], (CallInfo("a:b", ";x=y"), CallInfo("c:d")), (), "x"),
    "content_disposition": (
        "Content-Disposition", ["Render;handling=optional"], Disposition("render", ";handling=optional"), None, ";",
    ),
    "content_encoding": ("Content-Encoding", ["GZip", "tar"], ("gzip", "tar"), (), "a b"),
    "content_language": ("Content-Language", ["fr, en-GB"], ("fr", "en-gb"), (), "e_n"),
    "date_s": ("Date", ["Sat, 13 Nov 2010 23:29:00 GMT"], 1_289_690_940, None, "2010-11-13"),
    "error_info": ("Error-Info", ["<sip:a@b>", "<sip:c@d>"], (CallInfo("sip:a@b"), CallInfo("sip:c@d")), (), "<>"),
    "event": ("Event", ["reg;id=1"], EventPackage("reg", ";id=1"), None, "a..b"),
    "expires_s": ("Expires", ["60"], 60, None, "-1"),
    "in_reply_to": ("In-Reply-To", ["a@b, c", '"d'], ("a@b", "c", '"d'), (), "a b"),
    "max_breadth": ("Max-Breadth", ["60"], 60, None, "0"),
    "mime_version": ("MIME-Version", ["1.0"], (1, 0), None, "1"),
    "min_expires_s": ("Min-Expires", ["3600"], 3600, None, "x"),
    "organization": ("Organization", ["  Boxes by Bob "], "Boxes by Bob", None, "\\\0"),
    "p_asserted_identity": (
        "P-Asserted-Identity", ["<sip:a@b>", "tel:+1"], parse_identities(["sip:a@b", "tel:+1"]), (), "sip:c@d;x y",
    ),
    "p_preferred_identity": (
        "P-Preferred-Identity", ['"A" <sip:a@b>, tel:+1'], parse_identities(['"A" <sip:a@b>', "tel:+1"]), (), "im:c@d",
    ),
    "path": ("Path", ["<sip:a;lr>, <sip:b>", "<sip:c>"], parse_hops(["<sip:a;lr>", "<sip:b>,<sip:c>"]), (), "sip:a;lr"),
    "priority": ("Priority", ["Urgent"], "urgent", None, "a b"),
    "privacy": ("Privacy", ["ID;critical"], ("id", "critical"), (), "id;"),
    "proxy_require": ("Proxy-Require", ["foo", "Bar, baz"], ("foo", "Bar", "baz"), (), "a;b"),
    "record_routes": ("Record-Route", ["<sip:a;lr>"], parse_hops(["<sip:a;lr>"]), (), "<tel:+1>"),
    "proxy_authenticate": (
        "Proxy-Authenticate",
        ['Digest realm="a, b"', "Digest realm=c"],
        (Challenge(realm="a, b"), Challenge(realm="c")),
        (),
        "Digest x",
    ),
    "proxy_authorization": (
        "Proxy-Authorization", ['Digest realm="a"'], (Credentials(realm="a"),), (), "Digest a=b, a=c",
    ),
    "reject_contact": ("Reject-Contact", ["*;video"], (ContactPreference(";video"),), (), "*;"),
    "reply_to": ("Reply-To", ['"Bob" <tel:+1>;x=y'], parse_name_addr('"Bob" <tel:+1>;x=y'), None, "Bob"),
    "request_disposition": ("Request-Disposition", ["Proxy", "no-fork"], ("proxy", "no-fork"), (), "x"),
    "require": ("Require", ["pref, path"], ("pref", "path"), (), "a/b"),
    "retry_after": ("Retry-After", ["5 (busy);x"], RetryAfter(5, Comment("busy"), ";x"), None, "5 ("),
    "routes": ("Route", ["<sip:a;lr>", "<sip:b>"], parse_hops(["<sip:a;lr>", "<sip:b>"]), (), "<sip:a"),
    "server": ("Server", ["a/1 (b)"], (Product("a", "1"), Comment("b")), (), "a/"),
    "service_route": ("Service-Route", ["<sip:a;lr>"], parse_hops(["<sip:a;lr>"]), (), "*"),
    "subject": ("Subject", ["Grüße, (all) "], "Grüße, (all)", None, "\\\0"),
    "supported": ("Supported", ["path, outbound", "gruu"], ("path", "outbound", "gruu"), (), "a b"),
    "unsupported": ("Unsupported", ["foo"], ("foo",), (), "a=b"),
    "user_agent": ("User-Agent", ["a/1 (b (c))"], (Product("a", "1"), Comment("b (c)")), (), ")"),
    "www_authenticate": ("WWW-Authenticate", ['Digest realm="a"'], (Challenge(realm="a"),), (), "Digest"),
    "warnings": ("Warning", ['399 a "b, c"', '301 d "e"'],
                 (WarningValue(399, "a", "b, c"), WarningValue(301, "d", "e")), (), "399"),
}  # fmt: skip

# Those that every message of ours has, or that are tested with it.
_OTHERS = {
    "raw_lines", "via", "vias", "from_", "to", "call_id", "cseq", "max_forwards", "content_length", "content_type",
    "media_type", "contacts",
}  # fmt: skip
_ALL = sorted(name for name, value in inspect.getmembers(Headers) if isinstance(value, property))

_SINGLE = [
    "content_disposition", "date_s", "event", "expires_s", "max_breadth", "mime_version", "min_expires_s",
    "organization", "priority", "privacy", "reply_to", "retry_after", "server", "subject", "user_agent",
]  # fmt: skip


def _with(lines: list[str]) -> Headers:
    return tokenise(changed(("Max-Forwards", "".join(f"{line}\r\n" for line in lines) + "Max-Forwards")))


def test_every_view_has_its_test() -> None:
    assert sorted(_OTHERS | _VIEWS.keys()) == _ALL
    assert set(_SINGLE) <= _VIEWS.keys()


@pytest.mark.parametrize("view", _VIEWS)
def test_a_view_of_a_header(view: str) -> None:
    name, values, expected, _, _ = _VIEWS[view]

    assert getattr(_with([f"{name}: {value}" for value in values]), view) == expected
    assert getattr(_with([f"{name.upper()} :\r\n\t{value} \r\n " for value in values]), view) == expected


@pytest.mark.parametrize("view", _VIEWS)
def test_a_view_of_a_header_that_is_not_there(view: str) -> None:
    _, _, _, absent, _ = _VIEWS[view]

    assert getattr(_with([]), view) == absent


@pytest.mark.parametrize("view", _VIEWS)
def test_a_view_of_a_malformed_header(view: str) -> None:
    name, values, _, _, malformed = _VIEWS[view]

    with pytest.raises(ParseError):
        getattr(_with([f"{name}: {malformed}"]), view)
    with pytest.raises(ParseError):
        getattr(_with([f"{name}: {value}" for value in values] + [f"{name}: {malformed}"]), view)


@pytest.mark.parametrize("view", _VIEWS)
def test_what_is_no_list_may_stand_there_once(view: str) -> None:
    name, values, _, _, _ = _VIEWS[view]
    message = _with([f"{name}: {values[0]}", "X: y", f"{name}: {values[0]}"])

    if view in _SINGLE:
        with pytest.raises(ParseError, match=rf"one {name.lower()} header.*2 of them"):
            getattr(message, view)
    elif view not in ("p_asserted_identity", "p_preferred_identity", "request_disposition"):
        # These three refuse the second value, not the second line.
        once = getattr(_with([f"{name}: {values[0]}"]), view)
        assert getattr(message, view) == once + once


@pytest.mark.parametrize("view", ["accept", "accept_encoding", "accept_language", "allow"])
def test_a_header_that_is_empty_is_other_than_none(view: str) -> None:
    name, _, _, _, _ = _VIEWS[view]

    assert getattr(_with([]), view) is None
    assert getattr(_with([f"{name}:"]), view) == ()
    assert getattr(_with([f"{name}: ,", f"{name}:"]), view) == ()


@pytest.mark.parametrize(("view", "said"), [("subject", ""), ("organization", ""), ("user_agent", ()), ("server", ())])
def test_an_empty_text_is_a_text(view: str, said: object) -> None:
    name, _, _, _, _ = _VIEWS[view]

    assert getattr(_with([f"{name}:"]), view) == said


_COMPACT = [(short, view) for short, name in COMPACT.items() for view in _VIEWS if _VIEWS[view][0].lower() == name]


@pytest.mark.parametrize(("compact", "view"), _COMPACT)
def test_a_compact_form_is_the_header_itself(compact: str, view: str) -> None:
    name, values, expected, _, _ = _VIEWS[view]

    assert getattr(_with([f"{compact}: {value}" for value in values]), view) == expected
    # "A header field name MAY appear in both long and short forms within the same message" (section 7.3.3).
    forms = [compact.upper(), name]
    assert getattr(_with([f"{forms[at % 2]}:{value}" for at, value in enumerate(values)]), view) == expected


def test_the_numbers_that_stand_there_twice() -> None:
    for view, line in (("max_forwards", "Max-Forwards: 70"), ("content_length", "l: 18"), ("media_type", "c: a/b")):
        with pytest.raises(ParseError):
            getattr(_with([line]), view)
    # Of the text of a Content-Type the first line is shown, as of any header.
    assert _with(["c: a/b"]).content_type == "a/b"


def test_the_media_type_of_a_body() -> None:
    assert _with([]).media_type == MediaType("text", "plain")
    typed = tokenise(changed(("text/plain", "Multipart/Mixed;boundary=x")))
    assert typed.media_type == MediaType("multipart", "mixed", ";boundary=x")
    assert tokenise(changed(("Content-Type: text/plain\r\n", ""))).media_type is None


def test_all_values_of_via() -> None:
    vias = _with(['Via: SIP/2.0/UDP a;branch=b, SIP/2.0/TCP c:5061;x=","', "V: ,"]).vias

    assert vias[1:] == (parse_via("SIP/2.0/UDP a;branch=b"), parse_via('SIP/2.0/TCP c:5061;x=","'))
    with pytest.raises(ParseError):
        _ = _with(["Via: SIP/2.0/UDP a;branch=b, x"]).vias


def test_contacts() -> None:
    assert _with(["m: *"]).contacts is STAR
    contacts = _with(["Contact: <sip:a@b>;q=0.5, <sip:c@d>", "m: sip:e@f"]).contacts
    assert contacts is not STAR
    assert [contact.uri_text for contact in contacts] == ["sip:a@b", "sip:c@d", "sip:e@f"]


_pieces = st.sampled_from(
    [
        " ",
        "\t",
        ";",
        ",",
        '"',
        "\\",
        "<",
        ">",
        "(",
        ")",
        "*",
        "/",
        "=",
        "a",
        "1",
        ":",
        "tel:+1",
        "sip:a@b",
        "q=0.5",
        "é",
    ]
)
_lines = st.builds(
    "{}:{}".format, st.sampled_from([view[0] for view in _VIEWS.values()]), st.lists(_pieces, max_size=8).map("".join)
)


@given(st.lists(_lines, max_size=4), messages())
def test_a_view_says_something_or_raises_a_parse_error(lines: list[str], data: bytes) -> None:
    start, _, rest = data.partition(b"\r\n")
    added = "".join(f"{line}\r\n" for line in lines).encode()
    message = tokenise(start + b"\r\n" + added + rest)

    for view in _ALL:
        with contextlib.suppress(ParseError):
            getattr(message, view)
    assert message.serialise() == start + b"\r\n" + added + rest
