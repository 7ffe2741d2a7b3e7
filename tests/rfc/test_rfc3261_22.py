"""RFC 3261 section 22: what SIP makes of HTTP authentication, and section 7.3.1 on its four headers."""

import pytest

from msilo_core.digest import SUPPORTED, Algorithm, Verdict, admit, answer, challenges, choose, select
from msilo_core.errors import ParseError
from msilo_core.fields import Challenge, parse_challenge, parse_credentials
from msilo_core.keyring import Keyring
from msilo_core.message import parse_message
from tests.core.auth import PASSWORD, REALM, URI, USER, at, bobs_ha1, entropy, issuer, signed
from tests.core.wire import crlf

MD5, SHA_256 = Algorithm.MD5, Algorithm.SHA_256


# 7.3.1: "The exceptions to this rule are the WWW-Authenticate, Authorization, Proxy-Authenticate, and
# Proxy-Authorization header fields. Multiple header field rows with these names MAY be present in a message, but since
# their grammar does not follow the general form listed in Section 7.3, they MUST NOT be combined into a single header
# field row."
def test_rows_are_values_and_commas_are_not_between_them() -> None:
    register = parse_message(
        crlf("""
            REGISTER sip:biloxi.com SIP/2.0
            Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1
            From: sip:bob@biloxi.com;tag=1
            To: sip:bob@biloxi.com
            Call-ID: c
            CSeq: 1 REGISTER
            Max-Forwards: 70
            Authorization: Digest username="bob", realm="biloxi.com",
             nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="sip:bob@biloxi.com", response="00"
            Proxy-Authorization: Digest username="Alice", realm="atlanta.com",
               nonce="c60f3082ee1212b402a21831ae",
               response="245f23415f11432b3434341c022"
            Authorization: Digest username="bob", realm="chicago.com"

            """)
    )
    assert [(value.username, value.realm) for value in register.authorization] == [
        ("bob", "biloxi.com"),
        ("bob", "chicago.com"),
    ]
    assert [value.realm for value in register.proxy_authorization] == ["atlanta.com"]
    with pytest.raises(ParseError):
        parse_credentials('Digest username="bob", realm="biloxi.com", Digest username="bob", realm="chicago.com"')


# 7.3.1: "any given parameter-name MUST NOT appear more than once."
def test_a_parameter_stands_there_once() -> None:
    with pytest.raises(ParseError):
        parse_credentials('Digest username="bob", realm="biloxi.com", Username="alice"')


# 22: "Servers MUST NOT accept credentials using the "Basic" authorization scheme, and servers also MUST NOT challenge
# with "Basic"."
def test_basic_is_not_accepted() -> None:
    credentials = parse_credentials("Basic Ym9iOnphbnppYmFy")
    assert not credentials.is_digest
    assert select([credentials], REALM, SUPPORTED, issuer(), at(10)) is None


# 22.1: "The realm string alone defines the protection domain."
def test_a_nonce_serves_for_any_uri_of_its_realm_and_for_no_other_realm() -> None:
    nonces = issuer()
    nonce = nonces.issue(REALM, at(10))
    challenge = Challenge(realm=REALM, nonce=nonce, algorithm="SHA-256", qop=("auth",))
    for nc, uri in enumerate(("sip:biloxi.com", "sip:alice@atlanta.com", "tel:+1-201-555-0123"), start=1):
        credentials = answer(challenge, USER, PASSWORD, method="MESSAGE", uri=uri, cnonce="c", nc=nc)
        assert admit(credentials, "MESSAGE", b"", bobs_ha1(SHA_256), nonces, at(20)) is Verdict.ADMITTED
        assert select([credentials], "atlanta.com", SUPPORTED, nonces, at(20)) is None


# 22.1: "If a server does not require authentication for a particular request, it MAY accept a default username,
# "anonymous", which has no password (password of "")." A server that does has to store it like any other.
def test_nobody_is_admitted_without_a_password() -> None:
    nonces = issuer()
    challenge = Challenge(realm=REALM, nonce=nonces.issue(REALM, at(10)))
    anonymous = answer(challenge, "anonymous", "", method="MESSAGE", uri=URI, cnonce="c")
    assert admit(anonymous, "MESSAGE", b"", None, nonces, at(20)) is Verdict.DENIED


# 22.1: "A UAC MUST NOT re-attempt requests with the credentials that have just been rejected (though the request may be
# retried if the nonce was stale)."
@pytest.mark.parametrize("stale", [False, True])
def test_what_was_rejected_is_not_tried_again(stale: bool) -> None:
    keys = Keyring(USER, PASSWORD, entropy())
    assert keys.challenged([Challenge(realm=REALM, nonce="1", qop=("auth",))], (), ())
    sent = keys.answers("REGISTER", URI)
    assert keys.challenged([Challenge(realm=REALM, nonce="2", qop=("auth",), stale=stale)], (), sent) == stale


# 22.2: "UAs SHOULD cache the credentials for a given value of the To header field and "realm" and attempt to re-use
# these values on the next request for that destination."
def test_credentials_are_used_again() -> None:
    nonces, keys = issuer(), Keyring(USER, PASSWORD, entropy())
    nonce = nonces.issue(REALM, at(10))
    keys.challenged([parse_challenge(value) for value in challenges(REALM, nonce, [SHA_256])], (), ())
    for _ in range(3):
        ((_, credentials),) = keys.answers("REGISTER", URI)
        assert credentials.nonce == nonce
        assert admit(credentials, "REGISTER", b"", bobs_ha1(SHA_256), nonces, at(20)) is Verdict.ADMITTED


# 22.3: "When multiple proxies are used in a chain, a Proxy-Authorization header field value MUST NOT be consumed by any
# proxy whose realm does not match the "realm" parameter specified in that value."
def test_credentials_of_another_realm_are_passed_over() -> None:
    nonces = issuer()
    theirs = parse_credentials('Digest username="bob", realm="atlanta.com", nonce="n", uri="sip:a", response="00"')
    ours = signed(nonces.issue(REALM, at(10)))
    assert select([theirs, ours], REALM, SUPPORTED, nonces, at(20)) is ours
    assert select([theirs], REALM, SUPPORTED, nonces, at(20)) is None


# 22.3: "When resubmitting its request in response to a 401 (Unauthorized) or 407 (Proxy Authentication Required) that
# contains multiple challenges, a UAC MAY include an Authorization value for each WWW-Authenticate value and a
# Proxy-Authorization value for each Proxy-Authenticate value for which the UAC wishes to supply a credential."
def test_each_kind_of_challenge_has_its_kind_of_answer() -> None:
    keys = Keyring(USER, PASSWORD, entropy())
    assert keys.challenged([Challenge(realm="a", nonce="1")], [Challenge(realm="b", nonce="2")], ())
    answers = keys.answers("MESSAGE", URI)
    assert [(name, value.realm) for name, value in answers] == [("Authorization", "a"), ("Proxy-Authorization", "b")]


# 22.4: "SIP servers supporting RFC 2617 MUST ensure they are backwards compatible with RFC 2069."
def test_a_client_without_qop_is_admitted() -> None:
    nonces = issuer()
    challenge = Challenge(realm=REALM, nonce=nonces.issue(REALM, at(10)))
    credentials = answer(challenge, USER, PASSWORD, method="REGISTER", uri=URI, cnonce="c")
    assert (credentials.qop, credentials.nc, credentials.cnonce) == ("", "", "")
    assert admit(credentials, "REGISTER", b"", bobs_ha1(MD5), nonces, at(20)) is Verdict.ADMITTED


# 22.4, 7: "the hash of the entity-body resolves to the MD5 hash of an empty string, or:
# H(entity-body) = MD5("") = "d41d8cd98f00b204e9800998ecf8427e""
def test_an_empty_body() -> None:
    challenge = Challenge(realm=REALM, nonce="n", qop=("auth-int",))
    credentials = answer(challenge, USER, PASSWORD, method="REGISTER", uri=URI, cnonce="c")
    a2 = MD5.digest(f"REGISTER:{URI}:d41d8cd98f00b204e9800998ecf8427e".encode())
    assert credentials.response == MD5.digest(f"{bobs_ha1(MD5)}:n:00000001:c:auth-int:{a2}".encode())


# 22.4, 8: "servers MUST always send a "qop" parameter in WWW-Authenticate and Proxy-Authenticate header field values.
# If a client receives a "qop" parameter in a challenge header field, it MUST send the "qop" parameter in any resulting
# authorization header field."
def test_qop() -> None:
    for value in challenges(REALM, "n", SUPPORTED):
        (challenge,) = choose([parse_challenge(value)])
        assert challenge.qop == ("auth",)
        assert answer(challenge, USER, PASSWORD, method="REGISTER", uri=URI, cnonce="c").qop == "auth"
