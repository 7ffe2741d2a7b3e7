"""Authorization, WWW-Authenticate and their likes for proxies."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError
from msilo_core.fields import Challenge, Credentials, parse_challenge, parse_credentials
from tests.core.samples import MESSAGE, OK, changed
from tests.core.shapes import joined, outcome
from tests.core.wire import crlf, request, response

# -- Challenges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "challenge"),
    [
        # RFC 3261 section 22.2.
        ('Digest realm="biloxi.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
         ' opaque="5ccc069c403ebaf9f0171e9517f40e41"',
         Challenge(realm="biloxi.com", qop=("auth", "auth-int"), nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
                   opaque="5ccc069c403ebaf9f0171e9517f40e41")),
        # RFC 3261 section 20.27.
        ('Digest realm="atlanta.com", domain="sip:ss1.carrier.com", qop="auth",'
         ' nonce="f84f1cec41e6cbe5aea9c8e88d359", opaque="", stale=FALSE, algorithm=MD5',
         Challenge(realm="atlanta.com", domain="sip:ss1.carrier.com", qop=("auth",),
                   nonce="f84f1cec41e6cbe5aea9c8e88d359", opaque="", algorithm="MD5")),
        # RFC 7616 section 3.9.2.
        ('Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256,'
         ' nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", charset=UTF-8, userhash=true',
         Challenge(realm="api@example.org", qop=("auth",), algorithm="SHA-512-256",
                   nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", userhash=True)),
        ('dIGEST\tREALM = "a" ,\tNonce= "b",STALE =True', Challenge(realm="a", nonce="b", stale=True)),
        ('Digest realm="a \\"b\\" \\\\ ,c=d", nonce="é\\\x01"', Challenge(realm='a "b" \\ ,c=d', nonce="é\x01")),
        # Quotes where a token belongs, and none where a quoted string does.
        ('Digest realm=example.com, nonce=abc, qop=auth, stale="true", algorithm="SHA-256", userhash="TRUE"',
         Challenge(realm="example.com", nonce="abc", qop=("auth",), stale=True, algorithm="SHA-256", userhash=True)),
        ('Digest realm="a",nonce="b",qop=" AUTH-INT , auth\tfoo,,"',
         Challenge(realm="a", nonce="b", qop=("auth-int", "auth", "foo"))),
        ('Digest realm="a",nonce="b",qop=""', Challenge(realm="a", nonce="b")),
        ('Digest realm="a",nonce="b",qop=" ,"', Challenge(realm="a", nonce="b")),
        ('Digest realm="a",nonce="b",stale=perhaps', Challenge(realm="a", nonce="b")),
        # RFC 7235 section 7: a list may have empty elements.
        ('Digest ,, realm="a" , , nonce="b",', Challenge(realm="a", nonce="b")),
        ("Digest realm=a", Challenge(realm="a")),
        ("Digest x=y", Challenge()),
        # Other schemes.
        ("Negotiate", Challenge(scheme="Negotiate")),
        ("Bearer \t authz_server=\"https://as.example\", scope='a",
         Challenge(scheme="Bearer", params="authz_server=\"https://as.example\", scope='a")),
        ("Negotiate oRQwEqADCgEBoQsG/Ak+AQ==", Challenge(scheme="Negotiate", params="oRQwEqADCgEBoQsG/Ak+AQ==")),
        ('Basic realm="a"', Challenge(scheme="Basic", params='realm="a"')),
    ],
)  # fmt: skip
def test_challenge(text: str, challenge: Challenge) -> None:
    assert parse_challenge(text) == challenge
    assert parse_challenge(f" {text}\t ") == challenge
    assert parse_challenge(str(challenge)) == challenge
    assert challenge.is_digest == (text[:6].lower() == "digest")


def test_a_challenge_is_written_with_quotes_where_a_sender_has_them() -> None:
    # RFC 7616 section 3.3: "a sender MUST only generate the quoted string syntax values for the following parameters:
    # realm, domain, nonce, opaque, and qop"; "a sender MUST NOT generate the quoted string syntax values for the
    # following parameters: stale and algorithm".
    challenge = Challenge(
        realm='a"b\\',
        domain="sip:x",
        qop=("auth", "auth-int"),
        nonce="n",
        opaque="o",
        stale=True,
        algorithm="SHA-256",
        userhash=True,
    )
    assert str(challenge) == (
        'Digest realm="a\\"b\\\\", domain="sip:x", qop="auth,auth-int", nonce="n", opaque="o", stale=true,'
        " algorithm=SHA-256, userhash=true"
    )


# -- Credentials -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "credentials"),
    [
        # RFC 3261 section 22.2.
        ('Digest username="bob", realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
         ' uri="sip:bob@biloxi.com", qop=auth, nc=00000001, cnonce="0a4f113b",'
         ' response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"',
         Credentials(username="bob", realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
                     uri="sip:bob@biloxi.com", qop="auth", nc="00000001", cnonce="0a4f113b",
                     response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41")),
        # RFC 3261 section 20.28: no uri, and a response with digits missing.
        ('Digest username="Alice", realm="atlanta.com", nonce="c60f3082ee1212b402a21831ae",'
         ' response="245f23415f11432b3434341c022"',
         Credentials(username="Alice", realm="atlanta.com", nonce="c60f3082ee1212b402a21831ae",
                     response="245f23415f11432b3434341c022")),
        # The first REGISTER of an IMS phone, and what the proxy adds to it.
        ('Digest username="bob@home.example",realm="home.example",uri="sip:home.example",nonce="",response="",'
         'algorithm=AKAv1-MD5,integrity-protected="no"',
         Credentials(username="bob@home.example", realm="home.example", uri="sip:home.example",
                     algorithm="AKAv1-MD5")),
        # Quotes where a token belongs, and none where a quoted string does.
        ('Digest username=bob,realm=a,nonce=n,uri="sip:a",response=f0,algorithm="md5",cnonce=c,opaque=o,qop="auth"'
         ',nc="0000000A",userhash="false"',
         Credentials(username="bob", realm="a", nonce="n", uri="sip:a", response="f0", algorithm="md5", cnonce="c",
                     opaque="o", qop="auth", nc="0000000A")),
        ('Digest username="b\\ob,\\"", uri="sip:a,b@c;x=\\"y\\"", nc=1, qop=AUTH-INT',
         Credentials(username='bob,"', uri='sip:a,b@c;x="y"', nc="1", qop="AUTH-INT")),
        ('Digest username="488869477bf2", realm="a", userhash=TRUE',
         Credentials(username="488869477bf2", realm="a", userhash=True)),
        ("Digest opaque=\"\",cnonce=\"\"", Credentials(opaque="")),
        # RFC 7616 section 3.9.2.
        ("Digest username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, realm=\"api@example.org\"",
         Credentials(username="Jäsøn Doe", realm="api@example.org")),
        ("Digest username*=utf-8'de-AT'a!#$&+-.^_`|~%2C", Credentials(username="a!#$&+-.^_`|~,")),
        ("Digest username*=UTF-8''", Credentials()),
        # Other schemes. The first is that of RFC 4475 section 3.3.7.
        ("NoOneKnowsThisScheme opaque-data=here",
         Credentials(scheme="NoOneKnowsThisScheme", params="opaque-data=here")),
        ("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Credentials(scheme="basic", params="QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ("Bearer eyJhbGci.eyJz-_~+/.c2ln", Credentials(scheme="Bearer", params="eyJhbGci.eyJz-_~+/.c2ln")),
        ('NTLM qop="auth", realm="SIP", targetname="a", gssapi-data=""',
         Credentials(scheme="NTLM", params='qop="auth", realm="SIP", targetname="a", gssapi-data=""')),
        ("Negotiate", Credentials(scheme="Negotiate")),
        ("Digests a=b", Credentials(scheme="Digests", params="a=b")),
    ],
)  # fmt: skip
def test_credentials(text: str, credentials: Credentials) -> None:
    assert parse_credentials(text) == credentials
    assert parse_credentials(f"\t{text} ") == credentials
    assert parse_credentials(str(credentials)) == credentials
    assert credentials.is_digest == text.startswith("Digest ")


def test_credentials_are_written_with_quotes_where_a_sender_has_them() -> None:
    # RFC 7616 section 3.4: "a sender MUST only generate the quoted string syntax for the following parameters:
    # username, realm, nonce, uri, response, cnonce, and opaque"; "a sender MUST NOT generate the quoted string syntax
    # for the following parameters: algorithm, qop, and nc".
    credentials = Credentials(
        username="b\\b",
        realm="a",
        nonce="n",
        uri="sip:a",
        response="f",
        algorithm="MD5",
        cnonce="c",
        opaque="o",
        qop="auth",
        nc="00000001",
        userhash=True,
    )
    assert str(credentials) == (
        'Digest username="b\\\\b", realm="a", nonce="n", uri="sip:a", response="f", algorithm=MD5, cnonce="c",'
        ' opaque="o", qop=auth, nc=00000001, userhash=true'
    )


@pytest.mark.parametrize(
    ("nc", "count"), [("", None), ("0", 0), ("00000001", 1), ("0000000a", 10), ("A", 10), ("ffffffff", 2**32 - 1)]
)
def test_nonce_count(nc: str, count: int | None) -> None:
    assert parse_credentials(f'Digest nc="{nc}"').nonce_count == count


@pytest.mark.parametrize(
    "nc", ["000000001", "1" * 5_000, "g", "-1", "+1", "1_0", '" 1"', '"1 "', '"0x1"', '"\u0661"', '"1\uff11"']
)
def test_what_is_no_nonce_count(nc: str) -> None:
    with pytest.raises(ParseError):
        parse_credentials(f"Digest nc={nc}")


def test_credentials_of_digest_show_all_and_those_of_others_only_their_scheme() -> None:
    assert repr(parse_credentials('Digest username="bob", nc=1')) == (
        "Credentials(scheme='Digest', username='bob', realm='', nonce='', uri='', response='', algorithm='',"
        " cnonce='', opaque=None, qop='', nc='1', userhash=False, params='')"
    )
    basic = "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert repr(parse_credentials(f"Basic {basic}")) == "Credentials(scheme='Basic')"
    with pytest.raises(ParseError) as caught:
        parse_credentials(f"Basic {basic} x")
    assert "QWxh" not in str(caught.value)


# -- Both --------------------------------------------------------------------------------------------------------------

Parser = Callable[[str], Challenge | Credentials]
_PARSERS: list[Parser] = [parse_challenge, parse_credentials]


@pytest.mark.parametrize("parse", _PARSERS)
@pytest.mark.parametrize(
    "text",
    [
        "", "Digest", " Digest ", "Digest ,", "Digest ,\t, ", '"Digest" realm="a"', "Digest=a", "Digest,realm=a",
        "Digest realm", "Digest realm=", "Digest =a", 'Digest realm="a', 'Digest realm="a" nonce="b"',
        'Digest realm="a";nonce="b"', 'Digest realm="a"b', "Digest realm=a b", "Digest realm='a b'",
        'Digest "realm"="a"', "Digest realm=<a>", 'Digest realm="a\0"', 'Digest realm="a\r\n b"', 'Digest realm="\\é"',
        "Digest realm=é", "Digest é=a", "Dïgest realm=a", "Digest\u00a0realm=a", "Digest realm\u2003=a",
        # Each parameter stands there once, whatever its case and value.
        'Digest realm="a", realm="a"', 'Digest realm="a", nonce=b, REALM="b"', "Digest x=1, x=2", "Other a=b, A=c",
        "Digest nonce=a, nonce=", 'Digest algorithm="a b"', 'Digest algorithm="é"', "Digest algorithm=a#b",
        'Digest qop="a/b"', 'Digest qop="auth, é"',
        # RFC 8760 section 2.6, bullet 2: the URI must be in quotation marks.
        "Digest uri=sip:bob@biloxi.com", "Digest uri=sip:bob@biloxi.com, nonce=a",
        "Other a b", "Other a=b=c", "Other a=, b=c", "Other =", "Other a==b", "Other a/b, c=d", "Other é",
        # Several values are several lines.
        'Digest realm="a", nonce="b", Digest realm="c", nonce="d"',
    ],
)  # fmt: skip
def test_what_is_neither_challenge_nor_credentials(parse: Parser, text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        'Digest qop="auth,auth-int"',
        'Digest qop="auth auth"',
        "Digest username=bob, username*=UTF-8''bob",
        "Digest username*=UTF-8''bob, username=bob",
        "Digest username*=UTF-8''a, username*=UTF-8''a",
        "Digest username*=bob",
        "Digest username*=UTF-8'bob",
        "Digest username*=UTF-8'e'n'bob",
        "Digest username*=ISO-8859-1''J%E4s",
        "Digest username*=UTF-8''J%E4s",
        "Digest username*=UTF-8''%C0%80",
        "Digest username*=UTF-8''a%4",
        "Digest username*=UTF-8''a%",
        "Digest username*=UTF-8''a*b",
        "Digest username*=\"UTF-8''a b\"",
        # A line break would make a header of its own.
        "Digest username*=UTF-8''a%0D%0AX:b",
        "Digest username*=UTF-8''a%00",
        "Digest username*=UTF-8''a%7F",
    ],
)
def test_what_is_no_credentials(text: str) -> None:
    with pytest.raises(ParseError):
        parse_credentials(text)


_TOKENS = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,12}", fullmatch=True)
# A quoted string holds everything but line ends: what it may not hold as it is, it holds behind a backslash.
_TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
_OPAQUE = st.none() | _TEXTS
_OTHER = {
    "scheme": _TOKENS.filter(lambda scheme: scheme.lower() != "digest"),
    "params": st.sampled_from(["", "a=b", 'a="b c", d=e', "YTpi=="]),
}
_CHALLENGES = st.builds(Challenge, **_OTHER) | st.builds(
    Challenge,
    realm=_TEXTS,
    nonce=_TEXTS,
    algorithm=st.just("") | _TOKENS,
    qop=st.lists(_TOKENS.map(str.lower), max_size=3).map(tuple),
    opaque=_OPAQUE,
    stale=st.booleans(),
    domain=_TEXTS,
    userhash=st.booleans(),
)
_CREDENTIALS = st.builds(Credentials, **_OTHER) | st.builds(
    Credentials,
    username=_TEXTS,
    realm=_TEXTS,
    nonce=_TEXTS,
    uri=_TEXTS,
    response=_TEXTS,
    algorithm=st.just("") | _TOKENS,
    cnonce=_TEXTS,
    opaque=_OPAQUE,
    qop=st.just("") | _TOKENS,
    nc=st.from_regex(r"[0-9A-Fa-f]{0,8}", fullmatch=True),
    userhash=st.booleans(),
)


@given(_CHALLENGES)
def test_any_challenge_parses_to_itself(challenge: Challenge) -> None:
    assert parse_challenge(str(challenge)) == challenge


@given(_CREDENTIALS)
def test_any_credentials_parse_to_themselves(credentials: Credentials) -> None:
    assert parse_credentials(str(credentials)) == credentials


_PIECES = [
    "Digest ", "digest\t", "Basic ", "realm", "username", "username*", "UTF-8''", "%C3%A4", "nc", "qop", "algorithm",
    "=", ' = "', '"', "\\", "a", "00000001", ",", ", ", "auth", "MD5", "==",
]  # fmt: skip


@given(joined(_PIECES))
def test_any_text_parses_to_what_it_is_written_as_or_is_refused(text: str) -> None:
    for parse in _PARSERS:
        value = outcome(parse, text)
        assert value is ParseError or parse(str(value)) == value


# -- Headers -----------------------------------------------------------------------------------------------------------


def test_each_line_of_a_request_is_a_value() -> None:
    message = request(
        changed(
            (
                "Max-Forwards",
                'Authorization: Digest username="a",\r\n realm="x"\r\nProxy-Authorization:Digest username="b"\r\n'
                'authorization: Other a=b\r\nAuthorization: Digest username="c"\r\nMax-Forwards',
            )
        )
    )
    assert message.authorization == (
        Credentials(username="a", realm="x"),
        Credentials(scheme="Other", params="a=b"),
        Credentials(username="c"),
    )
    assert message.proxy_authorization == (Credentials(username="b"),)


def test_each_line_of_a_response_is_a_value() -> None:
    message = response(
        changed(
            (
                "CSeq",
                'WWW-Authenticate: Digest realm="a", algorithm=SHA-256\r\nProxy-Authenticate: Digest realm="p"\r\n'
                'WWW-Authenticate: Digest realm="a"\r\nCSeq',
            ),
            data=OK,
        )
    )
    assert message.www_authenticate == (Challenge(realm="a", algorithm="SHA-256"), Challenge(realm="a"))
    assert message.proxy_authenticate == (Challenge(realm="p"),)


def test_without_such_lines_there_are_no_values() -> None:
    message = request(MESSAGE)
    assert message.authorization == message.proxy_authorization == ()
    assert message.www_authenticate == message.proxy_authenticate == ()


def test_what_nobody_asks_for_is_not_parsed() -> None:
    message = request(changed(("Max-Forwards", "Authorization: Digest realm=\r\nMax-Forwards")))
    with pytest.raises(ParseError):
        _ = message.authorization


def test_an_unknown_scheme_is_well_formed() -> None:
    # RFC 4475 section 3.3.7: "The request is well formed. A parser must not fail when receiving it."
    register = request(
        crlf("""
            REGISTER sip:example.com SIP/2.0
            To: sip:j.user@example.com
            From: sip:j.user@example.com;tag=87321hj23128
            Max-Forwards: 8
            Call-ID: regaut01.0ha0isndaksdj
            CSeq: 9338 REGISTER
            Via: SIP/2.0/TCP 192.0.2.253;branch=z9hG4bKkdjuw
            Authorization: NoOneKnowsThisScheme opaque-data=here
            Content-Length:0

            """)
    )
    (credentials,) = register.authorization
    assert credentials == Credentials(scheme="NoOneKnowsThisScheme", params="opaque-data=here")
    assert not credentials.is_digest
