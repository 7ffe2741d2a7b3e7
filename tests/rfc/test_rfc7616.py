"""RFC 7616: the examples of section 3.9, and what sections 3.3 to 3.7 ask of each end."""

import hashlib

import msgspec
import pytest

from msilo_core.digest import Algorithm, answer, challenges, check, choose, ha1, request_digest
from msilo_core.errors import ParseError
from msilo_core.fields import Challenge, Credentials, parse_challenge, parse_credentials

MD5, SHA_256, SHA_512_256 = Algorithm.MD5, Algorithm.SHA_256, Algorithm.SHA_512_256

# -- 3.9.1. Example with SHA-256 and MD5 -------------------------------------------------------------------------------

CHALLENGES = [
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256,'
    ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5,'
    ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
]
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
WITH_MD5 = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5,'
    ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,'
    ' cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="8ca523f5e9506fed4657c9700eebdbec",'
    ' opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
WITH_SHA_256 = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=SHA-256,'
    ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,'
    ' cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth,'
    ' response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",'
    ' opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


def answered(challenge: Challenge) -> Credentials:
    """Return what Mufasa answers."""
    return answer(challenge, "Mufasa", "Circle of Life", method="GET", uri="/dir/index.html", cnonce=CNONCE)


# "the username for this document is "Mufasa" and the password is "Circle of Life""
@pytest.mark.parametrize(("challenge", "credentials"), [(CHALLENGES[0], WITH_SHA_256), (CHALLENGES[1], WITH_MD5)])
def test_both_ends_of_example_1(challenge: str, credentials: str) -> None:
    parsed = parse_credentials(credentials)
    algorithm = Algorithm.named(parsed.algorithm)
    assert algorithm is not None

    assert answered(parse_challenge(challenge)) == parsed
    assert check(parsed, "GET", b"", ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life"))


# Section 3.7: "When the client receives the first challenge, it SHOULD use the first challenge it supports".
def test_the_client_of_example_1_uses_sha_256() -> None:
    (challenge,) = choose(parse_challenge(value) for value in CHALLENGES)
    assert answered(challenge) == parse_credentials(WITH_SHA_256)


# Section 3.4.3: "If the qop value is "auth-int", then A2 is: A2 = Method ":" request-uri ":" H(entity-body)". The RFC
# has no example of it: these values were computed by its formulas alone, with the hash functions and nothing of ours.
@pytest.mark.parametrize(
    ("algorithm", "body", "response"),
    [
        (MD5, b"", "8804a53d3640a40a4f73cea12c5ba451"),
        (MD5, b"Watson, come here.", "bce7fb58ce279ffce2b403381d7ef742"),
        (SHA_256, b"", "8bdf6f15638e260831e905028de5450562816d093c9bfc5c13d3a46adcdde940"),
        (SHA_256, b"Watson, come here.", "268f13befe95a64ddb84a10e6fd15afde5fb4b1a980bbb91767c5975fafa6b69"),
    ],
)
def test_example_1_with_integrity_protection(algorithm: Algorithm, body: bytes, response: str) -> None:
    offered = next(c for c in map(parse_challenge, CHALLENGES) if c.algorithm == algorithm.value)
    challenge = msgspec.structs.replace(offered, qop=("auth-int",))
    credentials = answer(
        challenge, "Mufasa", "Circle of Life", method="GET", uri="/dir/index.html", body=body, cnonce=CNONCE
    )
    stored = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")

    assert (credentials.qop, credentials.response) == ("auth-int", response)
    assert check(credentials, "GET", body, stored)
    assert not check(credentials, "GET", body + b"!", stored)


# -- 3.9.2. Example with SHA-512-256, Charset, and Userhash ------------------------------------------------------------

USERNAME = "J\u00e4s\u00f8n Doe"
PASSWORD = "Secret, or not?"
REALM = "api@example.org"
NONCE = "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK"
CNONCE_2 = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
CHALLENGE_2 = (
    f'Digest realm="{REALM}", qop="auth", algorithm=SHA-512-256, nonce="{NONCE}",'
    ' opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
)

# What the RFC prints was made with SHA-512 cut to 256 bits. That is not SHA-512/256, which begins with other values
# (FIPS 180-4 section 5.3.6). The test below shows that this is all the difference.
PRINTED_USERNAME = "488869477bf257147b804c45308cd62ac4e25eb717b12b298c79e62dcea254ec"
PRINTED_RESPONSE = "ae66e67d6b427bd3f120414a82e4acff38e8ecd9101d6c861229025f607a79dd"
RIGHT_USERNAME = "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
RIGHT_RESPONSE = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"


def _credentials_2(username: str, response: str, userhash: str) -> str:
    return (
        f'Digest {username}, realm="{REALM}", uri="/doe.json", algorithm=SHA-512-256, nonce="{NONCE}", nc=00000001,'
        f' cnonce="{CNONCE_2}", qop=auth, response="{response}",'
        f' opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", userhash={userhash}'
    )


@pytest.mark.parametrize(
    ("function", "username", "response"),
    [("sha512", PRINTED_USERNAME, PRINTED_RESPONSE), ("sha512_256", RIGHT_USERNAME, RIGHT_RESPONSE)],
)
def test_what_example_2_was_made_with(function: str, username: str, response: str) -> None:
    def h(text: str) -> str:
        return hashlib.new(function, text.encode()).hexdigest()[: 256 // 4]

    a1, a2 = f"{USERNAME}:{REALM}:{PASSWORD}", "GET:/doe.json"
    assert h(f"{USERNAME}:{REALM}") == username
    assert h(f"{h(a1)}:{NONCE}:00000001:{CNONCE_2}:auth:{h(a2)}") == response


# Section 3.4.4: "the client MUST calculate a hash of the username after any other hash calculation and include the
# userhash parameter with the value of "true" in the Authorization header field."
def test_the_client_answers_example_2() -> None:
    credentials = answer(
        parse_challenge(CHALLENGE_2), USERNAME, PASSWORD, method="GET", uri="/doe.json", cnonce=CNONCE_2
    )
    expected = _credentials_2(f'username="{RIGHT_USERNAME}"', RIGHT_RESPONSE, "true")
    assert credentials == parse_credentials(expected)


# "If the client cannot provide a hashed username for any reason, the client can try a request with this Authorization
# header field".
def test_the_server_takes_the_name_of_example_2_that_is_not_hashed() -> None:
    credentials = parse_credentials(_credentials_2("username*=UTF-8''J%C3%A4s%C3%B8n%20Doe", RIGHT_RESPONSE, "false"))
    stored = ha1(SHA_512_256, USERNAME, REALM, PASSWORD)

    assert credentials.username == USERNAME
    assert check(credentials, "GET", b"", stored)
    assert not check(msgspec.structs.replace(credentials, response=PRINTED_RESPONSE), "GET", b"", stored)


# -- The parameters ----------------------------------------------------------------------------------------------------


# Section 3.4: "Sending both username and username* in the same header option MUST be treated as an error."
def test_one_name_only() -> None:
    text = _credentials_2("username=\"Doe\", username*=UTF-8''Doe", RIGHT_RESPONSE, "false")
    with pytest.raises(ParseError, match="username"):
        parse_credentials(text)


# Section 3.3: "stale: A case-insensitive flag ... If stale is false, or anything other than true, or the stale
# parameter is not present, the username and/or password are invalid".
@pytest.mark.parametrize(
    ("stale", "expected"),
    [("", False), (", stale=true", True), (", stale=TRUE", True), (", stale=false", False), (", stale=1", False)],
)
def test_stale(stale: str, expected: bool) -> None:
    assert parse_challenge(f'Digest realm="a", nonce="b"{stale}').stale == expected


# Section 3.3: "If this is not present, it is assumed to be "MD5". If the algorithm is not understood, the challenge
# SHOULD be ignored (and a different one used, if there is more than one)."
def test_algorithm() -> None:
    unknown, default = 'Digest realm="a", nonce="1", algorithm=SHA-1024', 'Digest realm="a", nonce="2"'
    (challenge,) = choose([parse_challenge(unknown), parse_challenge(default)])
    assert challenge.nonce == "2"
    credentials = answer(challenge, "b", "p", method="GET", uri="/", cnonce="c")
    expected = request_digest(MD5, ha1(MD5, "b", "a", "p"), method="GET", uri="/", nonce="2")
    assert credentials.response == expected


# Section 3.3: "Unrecognized options MUST be ignored."
def test_qop() -> None:
    challenge = parse_challenge('Digest realm="a", nonce="b", qop="auth-conf,auth-int"')
    assert answer(challenge, "b", "p", method="GET", uri="/", cnonce="c").qop == "auth-int"


# Section 3.4: "The values of the opaque and algorithm fields must be those supplied in the WWW-Authenticate response
# header field".
def test_opaque_and_algorithm_are_sent_back() -> None:
    credentials = answered(parse_challenge(CHALLENGES[1]))
    assert credentials.opaque == "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
    assert credentials.algorithm == "MD5"


# Section 3.3: "the notation unq(X) means the value of the quoted-string X without the surrounding quotes and with
# quoting slashes removed."
def test_what_is_hashed_is_without_quotes_and_slashes() -> None:
    credentials = parse_credentials(
        'Digest username="Muf\\asa", realm="http-auth@example.org", uri="/dir/index.html", algorithm="SHA-256",'
        f' nonce="7ypf\\/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="{CNONCE}", qop="auth",'
        ' response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"'
    )
    assert check(credentials, "GET", b"", ha1(SHA_256, "Mufasa", "http-auth@example.org", "Circle of Life"))


# Section 3.7: "If the server responds with multiple challenges, then each one of these challenges MUST use a different
# digest algorithm. The server MUST add these challenges to the response in order of preference, starting with the most
# preferred algorithm, followed by the less preferred algorithm."
def test_the_challenges_of_a_server() -> None:
    offered = [parse_challenge(value) for value in challenges("a", "n", [SHA_512_256, SHA_256, MD5])]
    assert [challenge.algorithm for challenge in offered] == ["SHA-512-256", "SHA-256", "MD5"]
