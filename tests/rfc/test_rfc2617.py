"""RFC 2617 section 3.5: the example. It is with MD5, and so with the default of the newer RFCs."""

import pytest

from msilo_core.digest import Algorithm, answer, check, ha1
from msilo_core.fields import Challenge, parse_challenge, parse_credentials

CHALLENGE = (
    'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
    ' opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
CREDENTIALS = (
    'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
    ' uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1",'
    ' opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)


# "Both client and server know that the username for this document is "Mufasa", and the password is "Circle Of Life"
# (with one space between each of the three words)."
def test_the_client_answers_as_in_the_example() -> None:
    answered = answer(
        parse_challenge(CHALLENGE), "Mufasa", "Circle Of Life", method="GET", uri="/dir/index.html", cnonce="0a4f113b"
    )
    assert answered == parse_credentials(CREDENTIALS)


def test_the_server_takes_the_answer_of_the_example() -> None:
    stored = ha1(Algorithm.MD5, "Mufasa", "testrealm@host.com", "Circle Of Life")
    credentials = parse_credentials(CREDENTIALS)

    assert stored == "939e7578ed9e3c518a452acee763bce9"
    assert check(credentials, "GET", b"", stored)
    assert not check(credentials, "PUT", b"", stored)
    assert not check(credentials, "GET", b"", ha1(Algorithm.MD5, "Mufasa", "testrealm@host.com", "Circle of Life"))


# Section 3.2.2.1: "If the "qop" directive is not present (this construction is for compatibility with RFC 2069):
# request-digest = <"> < KD ( H(A1), unq(nonce-value) ":" H(A2) ) > <">"
# The values below that the RFC does not print were computed by its formulas alone, with MD5 and nothing of ours.
@pytest.mark.parametrize(
    ("qop", "response"),
    [
        ("", "670fd8c2df070c60b045671b8b24ff02"),
        ("qop=auth, ", "6629fae49393a05397450978507c4ef1"),
        ("qop=auth-int, ", "5e6610ecf9ba3017a4870ad48e3ad30b"),
    ],
)
def test_each_construction_of_the_response(qop: str, response: str) -> None:
    credentials = parse_credentials(
        f'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", {qop}'
        f'uri="/dir/index.html", nc=00000001, cnonce="0a4f113b", response="{response}"'
    )
    assert check(credentials, "GET", b"", "939e7578ed9e3c518a452acee763bce9")


# Section 3.2.2, of cnonce and of nonce-count: each "MUST NOT be specified if the server did not send a qop directive in
# the WWW-Authenticate header field."
def test_a_server_of_rfc_2069_is_answered_without_cnonce_and_nc() -> None:
    challenge = Challenge(realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093")
    answered = answer(
        challenge, "Mufasa", "Circle Of Life", method="GET", uri="/dir/index.html", cnonce="0a4f113b", nc=1
    )
    assert str(answered) == (
        'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",'
        ' uri="/dir/index.html", response="670fd8c2df070c60b045671b8b24ff02"'
    )
