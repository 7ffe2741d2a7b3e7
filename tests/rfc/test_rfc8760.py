"""RFC 8760: Digest in SIP with other algorithms than MD5; its rules in their order."""

import pytest

from msilo_core.compose import relay_response
from msilo_core.digest import (
    SUPPORTED,
    Algorithm,
    Verdict,
    admit,
    answer,
    challenges,
    check,
    choose,
    ha1,
    names_target,
    request_digest,
    select,
)
from msilo_core.errors import LocalError, ParseError
from msilo_core.fields import Challenge, Credentials, parse_challenge, parse_credentials
from msilo_core.keyring import Keyring
from msilo_core.message import Response, parse_message
from tests.core.auth import PASSWORD, REALM, URI, USER, at, bobs_ha1, entropy, issuer, offer, signed
from tests.core.wire import crlf

MD5, SHA_256, SHA_512_256 = Algorithm.MD5, Algorithm.SHA_256, Algorithm.SHA_512_256

# -- 2.2. Representation of Digest Values ------------------------------------------------------------------------------


# "Each set of four bits is represented by its familiar hexadecimal notation from the characters 0123456789abcdef ...
# If the SHA-256 or SHA-512/256 algorithm is used to calculate the digest, then the digest will be represented as 64
# hexadecimal characters."
@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        (MD5, "d41d8cd98f00b204e9800998ecf8427e"),
        (SHA_256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (SHA_512_256, "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a"),
    ],
)
def test_digests_are_hexadecimal(algorithm: Algorithm, digest: str) -> None:
    assert algorithm.digest(b"") == digest


# -- 2.3. UAS Behavior -------------------------------------------------------------------------------------------------


# "If the UAS challenges the originator using multiple WWW-Authenticate/Proxy-Authenticate header fields with the same
# realm, then each of these header fields MUST use a different digest algorithm."
def test_each_challenge_has_another_algorithm() -> None:
    offered = offer("n", SUPPORTED)
    assert {challenge.realm for challenge in offered} == {REALM}
    assert len({challenge.algorithm for challenge in offered}) == len(offered) == 3
    with pytest.raises(LocalError):
        challenges(REALM, "n", [SHA_256, MD5, SHA_256])


# "The UAS MUST add these header fields to the response in the order in which it would prefer to see them used, starting
# with the most preferred algorithm at the top."
@pytest.mark.parametrize("preferred", [[SHA_512_256, SHA_256, MD5], [MD5, SHA_256], [SHA_256]])
def test_challenges_are_in_the_order_of_preference(preferred: list[Algorithm]) -> None:
    assert [Algorithm.named(challenge.algorithm) for challenge in offer("n", preferred)] == preferred


# "The UAS cannot assume that the client will use the algorithm specified in the topmost header field."
@pytest.mark.parametrize("algorithm", SUPPORTED)
def test_any_of_the_offered_algorithms_is_taken(algorithm: Algorithm) -> None:
    nonces = issuer()
    offered = offer(nonces.issue(REALM, at(10)), SUPPORTED)
    challenge = next(challenge for challenge in offered if challenge.algorithm == algorithm.value)
    credentials = answer(challenge, USER, PASSWORD, method="MESSAGE", uri=URI, cnonce="c")

    assert select([credentials], REALM, SUPPORTED, nonces, at(20)) is credentials
    assert admit(credentials, "MESSAGE", b"", bobs_ha1(algorithm), nonces, at(20)) is Verdict.ADMITTED
    others = [other for other in SUPPORTED if other is not algorithm]
    assert select([credentials], REALM, others, nonces, at(20)) is None


# -- 2.4. UAC Behavior -------------------------------------------------------------------------------------------------


# "When the UAC receives a response with multiple WWW-Authenticate/Proxy-Authenticate header fields with the same realm,
# it SHOULD use the topmost header field that it supports unless a local policy dictates otherwise."
def test_the_topmost_challenge_that_is_supported_is_answered() -> None:
    offered = offer("n", [SHA_512_256, SHA_256, MD5])

    assert choose(offered) == (offered[0],)
    assert choose(offered[::-1]) == (offered[2],)
    assert choose(offered, [MD5, SHA_256]) == (offered[1],)


# "The client MUST ignore any challenge it does not understand."
def test_challenges_that_are_not_understood_are_ignored() -> None:
    offered = [
        parse_challenge("Negotiate"),
        parse_challenge(f'Bearer realm="{REALM}"'),
        Challenge(realm=REALM, nonce="1", algorithm="SHA-3-256", qop=("auth",)),
        Challenge(realm=REALM, nonce="2", algorithm="SHA-256", qop=("auth-conf",)),
        Challenge(realm=REALM, nonce="3", algorithm="SHA-256", qop=("auth",)),
    ]
    assert choose(offered) == (offered[-1],)


# "When the UAC receives a 401 response with multiple WWW-Authenticate header fields with different realms, it SHOULD
# retry and add an Authorization header field containing credentials that match the topmost header field of any of the
# realms unless a local policy dictates otherwise."
def test_each_realm_is_answered_by_its_topmost_challenge() -> None:
    keys = Keyring(USER, PASSWORD, entropy())
    offered = [
        Challenge(realm="a", nonce="1", algorithm="SHA-256", qop=("auth",)),
        Challenge(realm="b", nonce="2", algorithm="MD5", qop=("auth",)),
        Challenge(realm="a", nonce="3", algorithm="MD5", qop=("auth",)),
        Challenge(realm="b", nonce="4", algorithm="SHA-256", qop=("auth",)),
    ]
    assert keys.challenged(offered, (), ())
    assert [(value.realm, value.nonce) for _, value in keys.answers("MESSAGE", URI)] == [("a", "1"), ("b", "2")]


# "If the UAC cannot respond to any of the challenges in the response, then it SHOULD abandon attempts to send the
# request unless a local policy dictates otherwise ... For example, if the UAC does not have credentials or has stale
# credentials for any of the realms, the UAC will abandon the request."
def test_a_request_that_cannot_be_answered_for_is_abandoned() -> None:
    keys = Keyring(USER, PASSWORD, entropy())
    assert not keys.challenged([parse_challenge('Basic realm="a"')], [parse_challenge("Negotiate")], ())

    assert keys.challenged([Challenge(realm="a", nonce="1")], (), ())
    sent = keys.answers("MESSAGE", URI)
    assert not keys.challenged([Challenge(realm="a", nonce="2")], (), sent)


# -- 2.5. Forking ------------------------------------------------------------------------------------------------------


# "When the forking proxy places multiple WWW-Authenticate and Proxy-Authenticate header fields received from one
# downstream proxy into a single response, it MUST maintain the order of these header fields."
def test_a_response_is_passed_on_with_its_challenges_in_their_order() -> None:
    parsed = parse_message(
        crlf("""
            SIP/2.0 401 Unauthorized
            Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKours
            Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKtheirs
            WWW-Authenticate: Digest realm="a", nonce="1", qop="auth", algorithm=SHA-512-256
            Proxy-Authenticate: Digest realm="b", nonce="2", qop="auth", algorithm=SHA-256
            From: sip:alice@example.com;tag=1
            WWW-Authenticate: Digest realm="a", nonce="3", qop="auth", algorithm=SHA-256
            To: sip:bob@example.com;tag=2
            Call-ID: c
            CSeq: 1 MESSAGE
            Proxy-Authenticate: Digest realm="b", nonce="4", qop="auth", algorithm=MD5
            WWW-Authenticate: Digest realm="a", nonce="5", qop="auth", algorithm=MD5
            Content-Length: 0

            """)
    )
    assert isinstance(parsed, Response)
    passed_on = parse_message(relay_response(parsed))

    assert [challenge.nonce for challenge in passed_on.www_authenticate] == ["1", "3", "5"]
    assert [challenge.nonce for challenge in passed_on.proxy_authenticate] == ["2", "4"]
    assert passed_on.www_authenticate == parsed.www_authenticate
    assert [challenge.nonce for challenge in choose(passed_on.www_authenticate)] == ["1"]


# -- 2.6. HTTP Digest Authentication Scheme Modifications --------------------------------------------------------------


# "SIP clients and servers MUST NOT accept or request Basic authentication."
def test_basic_is_neither_accepted_nor_answered() -> None:
    basic = parse_credentials("Basic Ym9iOnphbnppYmFy")
    assert select([basic], REALM, SUPPORTED, issuer(), at(10)) is None
    assert not check(basic, "MESSAGE", b"", bobs_ha1(MD5))
    assert choose([parse_challenge(f'Basic realm="{REALM}"')]) == ()
    assert all(value.startswith("Digest ") for value in challenges(REALM, "n", SUPPORTED))


# 2. "The "uri" parameter of the Authorization header field MUST be enclosed in quotation marks."
def test_the_uri_is_in_quotation_marks() -> None:
    credentials = answer(offer("n")[0], USER, PASSWORD, method="MESSAGE", uri="sip:a,b@biloxi.com;x=y", cnonce="c")

    assert ', uri="sip:a,b@biloxi.com;x=y",' in str(credentials)
    assert parse_credentials(str(credentials)).uri == "sip:a,b@biloxi.com;x=y"
    for uri in ("sip:bob@biloxi.com", "tel:+1-201-555-0123", "sip:biloxi.com"):
        with pytest.raises(ParseError):
            parse_credentials(f'Digest username="bob", uri={uri}')


# 6. "In a SIP context, these two URIs may refer to different users due to forwarding at some proxy. Therefore, in SIP,
# a UAS MUST check if the Request-URI in the Authorization/Proxy-Authorization header field value corresponds to a user
# for whom the UAS is willing to accept forwarded or direct requests; however, it MAY still accept it if the two fields
# are not equivalent."
def test_the_digest_uri_is_told_and_need_not_be_the_request_uri() -> None:
    nonces = issuer()
    credentials = signed(nonces.issue(REALM, at(10)), method="MESSAGE")

    assert credentials.uri == URI
    assert names_target(credentials, URI)
    assert not names_target(credentials, "sip:bob@192.0.2.4")
    assert admit(credentials, "MESSAGE", b"", bobs_ha1(SHA_256), nonces, at(20)) is Verdict.ADMITTED


# 7. "implementers should assume that the hash of the entity-body resolves to the hash of an empty string when the
# entity-body is empty (that is, when SIP messages have no body): H(entity-body) = <algorithm>("") ... SHA-256("") =
# "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855""
@pytest.mark.parametrize(
    ("algorithm", "empty"),
    [
        (SHA_256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (MD5, "d41d8cd98f00b204e9800998ecf8427e"),
    ],
)
def test_no_body_is_hashed_as_an_empty_one(algorithm: Algorithm, empty: str) -> None:
    a2 = algorithm.digest(f"REGISTER:{URI}:{empty}".encode())
    expected = algorithm.digest(f"{bobs_ha1(algorithm)}:n:00000001:c:auth-int:{a2}".encode())
    challenge = Challenge(realm=REALM, nonce="n", algorithm=algorithm.value, qop=("auth-int",))
    credentials = answer(challenge, USER, PASSWORD, method="REGISTER", uri=URI, cnonce="c")

    assert credentials.response == expected
    assert check(credentials, "REGISTER", b"", bobs_ha1(algorithm))


# 8. "A UAS MUST be able to properly handle a "qop" parameter received in an Authorization/Proxy-Authorization header
# field, and a UAC MUST be able to properly handle a "qop" parameter received in WWW-Authenticate and Proxy-Authenticate
# header fields. However, for backward compatibility reasons, the "qop" parameter is optional for clients and servers
# based on [RFC3261] to receive."
@pytest.mark.parametrize("qop", ["auth", "auth-int", ""])
def test_qop_is_handled_and_may_be_missing(qop: str) -> None:
    nonces = issuer()
    nonce = nonces.issue(REALM, at(10))
    challenge = Challenge(realm=REALM, nonce=nonce, algorithm="SHA-256", qop=(qop,) if qop else ())
    credentials = answer(challenge, USER, PASSWORD, method="MESSAGE", uri=URI, body=b"hi", cnonce="c")

    assert credentials.qop == qop
    assert admit(credentials, "MESSAGE", b"hi", bobs_ha1(SHA_256), nonces, at(20)) is Verdict.ADMITTED


# 8. "If the "qop" parameter is not specified, then the default value is "auth"." A2 is that of auth then (RFC 7616
# section 3.4.3: "If the qop parameter's value is "auth" or is unspecified"): the body is not covered.
def test_without_qop_the_body_is_not_covered() -> None:
    a2 = SHA_256.digest(f"MESSAGE:{URI}".encode())
    expected = SHA_256.digest(f"{bobs_ha1(SHA_256)}:n:{a2}".encode())
    credentials = Credentials(username=USER, realm=REALM, nonce="n", uri=URI, algorithm="SHA-256", response=expected)
    assert check(credentials, "MESSAGE", b"one body", bobs_ha1(SHA_256))
    assert check(credentials, "MESSAGE", b"another", bobs_ha1(SHA_256))


# 8. "A UAS MUST always send a "qop" parameter in WWW-Authenticate and Proxy-Authenticate header field values, and a UAC
# MUST send the "qop" parameter in any resulting authorization header field."
def test_qop_is_always_sent() -> None:
    for challenge, written in zip(offer("n", SUPPORTED), challenges(REALM, "n", SUPPORTED), strict=True):
        assert 'qop="auth"' in written
        credentials = answer(challenge, USER, PASSWORD, method="MESSAGE", uri=URI, cnonce="c")
        assert ", qop=auth," in str(credentials)


# -- 2.7. ABNF for SIP -------------------------------------------------------------------------------------------------


# "The number of hex digits is implied by the length of the value of the algorithm used, with a minimum size of 32. A
# parameter with an empty value (empty string) is allowed when the UAC has not yet received a challenge."
def test_a_response_may_be_empty_before_the_first_challenge() -> None:
    first = parse_credentials(f'Digest username="{USER}", realm="{REALM}", nonce="", uri="{URI}", response=""')

    assert first.response == first.nonce == ""
    # It is answered by a challenge, as a request without credentials is.
    assert select([first], REALM, SUPPORTED, issuer(), at(10)) is None
    assert not check(first, "REGISTER", b"", bobs_ha1(MD5))


@pytest.mark.parametrize("algorithm", SUPPORTED)
def test_a_response_of_the_wrong_length_is_wrong(algorithm: Algorithm) -> None:
    stored = ha1(algorithm, USER, REALM, PASSWORD)
    response = request_digest(algorithm, stored, method="REGISTER", uri=URI, nonce="n")
    for text, right in ((response, True), (response[:-1], False), (response + "0", False), (response[:32] * 3, False)):
        credentials = Credentials(realm=REALM, nonce="n", uri=URI, algorithm=algorithm.value, response=text)
        assert check(credentials, "REGISTER", b"", stored) == right


# "It extends the algorithm parameter as follows to allow any algorithm in the registry to be used: ... / token )".
@pytest.mark.parametrize("name", ["MD5-sess", "SHA-256-sess", "SHA-512-256-sess", "SHA-512", "x.y+z"])
def test_any_algorithm_is_well_formed_and_none_but_ours_is_used(name: str) -> None:
    challenge = parse_challenge(f'Digest realm="{REALM}", nonce="n", qop="auth", algorithm={name}')
    assert challenge.algorithm == name
    assert choose([challenge]) == ()
    credentials = parse_credentials(f'Digest realm="{REALM}", nonce="n", response="0", algorithm={name}')
    assert credentials.algorithm == name
    assert select([credentials], REALM, SUPPORTED, issuer(), at(10)) is None
