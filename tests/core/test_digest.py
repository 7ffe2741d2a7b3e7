"""Digest authentication: what is computed, what a server makes of credentials and what a client of challenges."""

import hashlib
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core import digest as module
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
from msilo_core.errors import LocalError
from msilo_core.fields import Challenge, Credentials, parse_challenge, parse_credentials
from tests.core.auth import LIFETIME_S, PASSWORD, REALM, SECRET, URI, USER, at, bobs_ha1, issuer, offer, signed

MD5, SHA_256, SHA_512_256 = Algorithm.MD5, Algorithm.SHA_256, Algorithm.SHA_512_256
NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"


def changed(credentials: Credentials, **fields: object) -> Credentials:
    """Return credentials with other values in some fields."""
    return msgspec.structs.replace(credentials, **fields)


# -- Computations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("SHA-256", SHA_256), ("sha-256", SHA_256), ("SHA-512-256", SHA_512_256), ("MD5", MD5), ("Md5", MD5), ("", MD5),
        ("MD5-sess", None), ("SHA-256-sess", None), ("SHA-512", None), ("SHA256", None), ("SHA_256", None),
        ("AKAv1-MD5", None), (" MD5", None), ("ſha-256", None),
    ],
)  # fmt: skip
def test_algorithms_by_name(text: str, algorithm: Algorithm | None) -> None:
    assert Algorithm.named(text) is algorithm


def test_an_algorithm_that_the_machine_lacks_is_not_supported() -> None:
    def new(name: str, *, usedforsecurity: bool) -> object:
        assert not usedforsecurity
        if name == "sha512_256":
            raise ValueError(f"unsupported hash type {name}")
        return hashlib.new(name)

    available = module._available  # pyright: ignore[reportPrivateUsage]
    assert available(new) == (SHA_256, MD5)
    assert available() == SUPPORTED == (SHA_256, SHA_512_256, MD5)


@pytest.mark.parametrize(("algorithm", "digits"), [(MD5, 32), (SHA_256, 64), (SHA_512_256, 64)])
def test_ha1(algorithm: Algorithm, digits: int) -> None:
    name = algorithm.value.lower().replace("-", "")
    expected = hashlib.new({"sha512256": "sha512_256"}.get(name, name), b"bob:biloxi.com:zanzibar").hexdigest()

    assert ha1(algorithm, "bob", "biloxi.com", "zanzibar") == expected == expected.lower()
    assert len(expected) == digits


def test_text_is_hashed_as_the_octets_that_it_came_as() -> None:
    expected = hashlib.md5("Jäsøn:é:ß".encode() + b"\xff").hexdigest()
    assert ha1(MD5, "Jäsøn", "é", "ß\udcff") == expected


@pytest.mark.parametrize(
    ("qop", "covered", "body"),
    [
        ("", b"H1:n:", None),
        ("auth", b"H1:n:00000001:c:auth:", None),
        ("AUTH", b"H1:n:00000001:c:AUTH:", None),
        ("auth-int", b"H1:n:00000001:c:auth-int:", b"octets \xff\x00"),
        ("auth-int", b"H1:n:00000001:c:auth-int:", b""),
        ("Auth-Int", b"H1:n:00000001:c:Auth-Int:", b"octets"),
    ],
)
def test_what_a_response_covers(qop: str, covered: bytes, body: bytes | None) -> None:
    a2 = b"MESSAGE:sip:a" if body is None else b"MESSAGE:sip:a:" + hashlib.sha256(body).hexdigest().encode()
    expected = hashlib.sha256(covered + hashlib.sha256(a2).hexdigest().encode()).hexdigest()

    computed = request_digest(
        SHA_256,
        "H1",
        method="MESSAGE",
        uri="sip:a",
        nonce="n",
        qop=qop,
        nc="00000001",
        cnonce="c",
        body=b"not covered" if body is None else body,
    )
    assert computed == expected


# -- The server asks ---------------------------------------------------------------------------------------------------


def test_challenges() -> None:
    assert challenges('b"c', NONCE, [SHA_256, MD5]) == (
        f'Digest realm="b\\"c", qop="auth", nonce="{NONCE}", algorithm=SHA-256',
        f'Digest realm="b\\"c", qop="auth", nonce="{NONCE}", algorithm=MD5',
    )
    assert challenges(REALM, NONCE, [SHA_512_256], stale=True) == (
        f'Digest realm="{REALM}", qop="auth", nonce="{NONCE}", stale=true, algorithm=SHA-512-256',
    )


@pytest.mark.parametrize("algorithms", [[], [MD5, MD5], [SHA_256, MD5, SHA_256]])
def test_each_algorithm_is_offered_once_and_one_at_least(algorithms: list[Algorithm]) -> None:
    with pytest.raises(LocalError):
        challenges(REALM, NONCE, algorithms)


# -- The server selects ------------------------------------------------------------------------------------------------


def selected(*values: Credentials, algorithms: Sequence[Algorithm] = (SHA_256, MD5)) -> Credentials | None:
    """Return which of the values is for the realm, at a server that issued none of their nonces."""
    return select(values, REALM, algorithms, issuer(), at(10))


GOOD = signed(NONCE)


@pytest.mark.parametrize(
    "credentials",
    [
        changed(GOOD, realm="atlanta.com"),
        changed(GOOD, realm="Biloxi.com"),
        changed(GOOD, realm=""),
        changed(GOOD, algorithm="SHA-512-256"),
        changed(GOOD, algorithm="SHA-256-sess"),
        changed(GOOD, algorithm="unknown"),
        # The user is known by a name, not by its hash.
        changed(GOOD, userhash=True),
        # A first REGISTER says who it is, and has not tried to prove it (RFC 8760 section 2.7).
        changed(GOOD, response=""),
        changed(GOOD, response="", nonce="", qop="", nc="", cnonce=""),
        # RFC 7616 section 3.4: nc and cnonce "MUST be used by all implementations".
        changed(GOOD, nc=""),
        changed(GOOD, cnonce=""),
        changed(GOOD, qop="auth-conf"),
        Credentials(scheme="Basic", params="Ym9iOnphbnppYmFy"),
        # "Servers MUST NOT accept credentials using the "Basic" authorization scheme", whatever else is in it.
        changed(GOOD, scheme="Basic"),
    ],
)
def test_credentials_that_nobody_can_check_are_as_good_as_none(credentials: Credentials) -> None:
    assert selected(credentials) is None
    assert selected(credentials, GOOD) is GOOD


@pytest.mark.parametrize(
    "credentials",
    [
        GOOD,
        changed(GOOD, qop="AUTH-INT"),
        # A client of RFC 2069.
        changed(GOOD, qop="", nc="", cnonce=""),
        # Without an algorithm it is MD5.
        changed(GOOD, algorithm=""),
        changed(GOOD, algorithm="md5"),
    ],
)
def test_credentials_that_can_be_checked(credentials: Credentials) -> None:
    assert selected(credentials) is credentials


def test_md5_is_refused_where_it_is_not_offered() -> None:
    assert selected(changed(GOOD, algorithm=""), algorithms=[SHA_256]) is None
    assert selected(changed(GOOD, algorithm="MD5"), algorithms=[SHA_256, SHA_512_256]) is None


def test_of_no_credentials_none_is_selected() -> None:
    assert selected() is None


def test_among_several_of_one_realm_that_with_our_nonce_counts() -> None:
    # RFC 3261 section 22.3: "a UAC MAY therefore supply multiple credentials in Authorization or Proxy-Authorization
    # header fields with the same "realm" parameter value."
    nonces = issuer()
    stale = signed(nonces.issue(REALM, at(10)))
    now = at(20 + LIFETIME_S * 1000)
    ours = signed(nonces.issue(REALM, now))

    assert select([GOOD, stale, ours, signed(nonces.issue(REALM, now))], REALM, [SHA_256], nonces, now) is ours
    assert select([stale, GOOD], REALM, [SHA_256], nonces, now) is stale


# -- The server checks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SUPPORTED)
@pytest.mark.parametrize("qop", ["", "auth", "auth-int"])
def test_a_right_response(algorithm: Algorithm, qop: str) -> None:
    challenge = Challenge(realm=REALM, nonce=NONCE, algorithm=algorithm.value, qop=(qop,) if qop else ())
    credentials = answer(challenge, USER, PASSWORD, method="MESSAGE", uri=URI, body=b"x", cnonce="c", nc=7)
    stored = bobs_ha1(algorithm)

    assert credentials.qop == qop
    assert check(credentials, "MESSAGE", b"x", stored)
    assert check(changed(credentials, response=credentials.response.upper()), "MESSAGE", b"x", stored)
    assert check(parse_credentials(str(credentials)), "MESSAGE", b"x", stored)
    assert check(credentials, "MESSAGE", b"y", stored) == (qop != "auth-int")

    assert not check(credentials, "REGISTER", b"x", stored)
    assert not check(credentials, "message", b"x", stored)
    assert not check(credentials, "MESSAGE", b"x", ha1(algorithm, USER, REALM, "guess"))
    assert not check(credentials, "MESSAGE", b"x", None)
    assert not check(changed(credentials, uri="sip:atlanta.com"), "MESSAGE", b"x", stored)
    assert not check(changed(credentials, nonce=NONCE[::-1]), "MESSAGE", b"x", stored)
    assert check(changed(credentials, nc="00000008"), "MESSAGE", b"x", stored) == (not qop)


@pytest.mark.parametrize("response", ["", "0", "é" * 64, "\udcff", "f" * 64, "f" * 63, "f" * 65_536, "\u0661" * 64])
def test_a_wrong_response(response: str) -> None:
    assert not check(changed(GOOD, response=response), "REGISTER", b"", bobs_ha1(SHA_256))


@pytest.mark.parametrize("nc", ["1", "0000000A", "0000000a", "ABCDEF01"])
def test_digits_of_nc_are_hashed_as_they_came(nc: str) -> None:
    response = request_digest(
        SHA_256, bobs_ha1(SHA_256), method="REGISTER", uri=URI, nonce=NONCE, qop="auth", nc=nc, cnonce="c"
    )
    credentials = changed(GOOD, nc=nc, cnonce="c", response=response)
    assert check(parse_credentials(str(credentials)), "REGISTER", b"", bobs_ha1(SHA_256))
    assert not check(changed(credentials, nc=nc.swapcase() + "0"), "REGISTER", b"", bobs_ha1(SHA_256))


def test_credentials_that_cannot_be_checked_are_not_right() -> None:
    assert not check(changed(GOOD, algorithm="unknown"), "REGISTER", b"", bobs_ha1(SHA_256))
    assert not check(changed(GOOD, userhash=True), "REGISTER", b"", bobs_ha1(SHA_256))


@pytest.mark.parametrize("algorithm", SUPPORTED)
def test_nobody_has_no_password(algorithm: Algorithm) -> None:
    # What is hashed in place of the HA1 of an unknown user is in the source: a response that is right for it must not
    # let anybody in.
    nobodys = module._NOBODYS[algorithm]  # pyright: ignore[reportPrivateUsage]
    response = request_digest(
        algorithm, nobodys, method="REGISTER", uri=URI, nonce=NONCE, qop="auth", nc="00000001", cnonce="c"
    )
    credentials = changed(GOOD, algorithm=algorithm.value, cnonce="c", response=response)

    assert check(credentials, "REGISTER", b"", nobodys)
    assert not check(credentials, "REGISTER", b"", None)
    # As long as an HA1, so that it takes as long.
    assert len(nobodys) == len(bobs_ha1(algorithm))


# -- The server admits -------------------------------------------------------------------------------------------------


def test_who_is_admitted_once_is_not_for_a_replay() -> None:
    nonces = issuer()
    first, second = (signed(nonces.issue(REALM, at(10))) for _ in range(2))
    stored = bobs_ha1(SHA_256)

    assert admit(first, "REGISTER", b"", stored, nonces, at(20)) is Verdict.ADMITTED
    assert admit(first, "REGISTER", b"", stored, nonces, at(20)) is Verdict.STALE
    assert admit(signed(first.nonce, 2), "REGISTER", b"", stored, nonces, at(20)) is Verdict.ADMITTED
    assert admit(second, "REGISTER", b"", stored, nonces, at(20)) is Verdict.ADMITTED


def test_a_wrong_response_uses_nothing_up() -> None:
    nonces = issuer()
    right = signed(nonces.issue(REALM, at(10)))
    wrong = signed(right.nonce, password="guess")

    assert admit(wrong, "REGISTER", b"", bobs_ha1(SHA_256), nonces, at(20)) is Verdict.DENIED
    assert admit(right, "REGISTER", b"", None, nonces, at(20)) is Verdict.DENIED
    assert len(nonces) == 0
    assert admit(right, "REGISTER", b"", bobs_ha1(SHA_256), nonces, at(20)) is Verdict.ADMITTED


def test_a_nonce_that_is_old_or_not_ours_is_stale_for_who_knows_the_password() -> None:
    nonces, stored = issuer(), bobs_ha1(SHA_256)
    late = at(11 + LIFETIME_S * 1000)
    old = nonces.issue(REALM, at(10))
    foreign = issuer(SECRET[::-1]).issue(REALM, at(10))

    for nonce, now in ((old, late), (foreign, at(20)), (NONCE, at(20))):
        assert admit(signed(nonce), "REGISTER", b"", stored, nonces, now) is Verdict.STALE
        assert admit(signed(nonce, password="guess"), "REGISTER", b"", stored, nonces, now) is Verdict.DENIED
        assert admit(signed(nonce), "REGISTER", b"", None, nonces, now) is Verdict.DENIED


def test_without_qop_a_nonce_serves_once_whatever_nc_says() -> None:
    # The response of RFC 2069 does not cover nc: who overheard it could go on counting with it.
    nonces, stored = issuer(), bobs_ha1(MD5)
    challenge = Challenge(realm=REALM, nonce=nonces.issue(REALM, at(10)))
    credentials = answer(challenge, USER, PASSWORD, method="REGISTER", uri=URI, cnonce="c")

    assert admit(credentials, "REGISTER", b"", stored, nonces, at(20)) is Verdict.ADMITTED
    for replay in (credentials, changed(credentials, nc="00000002", cnonce="d")):
        assert check(replay, "REGISTER", b"", stored)
        assert admit(replay, "REGISTER", b"", stored, nonces, at(20)) is Verdict.STALE


def test_an_nc_without_qop_does_not_spare_the_nonce() -> None:
    nonces, stored = issuer(), bobs_ha1(MD5)
    challenge = Challenge(realm=REALM, nonce=nonces.issue(REALM, at(10)))
    credentials = changed(answer(challenge, USER, PASSWORD, method="REGISTER", uri=URI, cnonce="c"), nc="00000001")

    assert admit(credentials, "REGISTER", b"", stored, nonces, at(20)) is Verdict.ADMITTED
    assert admit(changed(credentials, nc="00000002"), "REGISTER", b"", stored, nonces, at(20)) is Verdict.STALE


# -- Which resource ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digest_uri", "request_uri", "same"),
    [
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com", True),
        ("sip:bob@biloxi.com", "sip:%62ob@BILOXI.com", True),
        ("sip:bob@biloxi.com", "sip:bob@192.0.2.4", False),
        ("sip:bob@biloxi.com", "sips:bob@biloxi.com", False),
        ("sip:bob@biloxi.com", "sip:alice@biloxi.com", False),
        ("tel:+1-201-555-0123", "tel:+1-201-555-0123", True),
        ("tel:+12015550123", "tel:+1-201-555-0123", False),
        ("/dir/index.html", "sip:bob@biloxi.com", False),
        ("", "sip:bob@biloxi.com", False),
        ("sip:" + "a" * 5_000 + "@b", "sip:bob@biloxi.com", False),
    ],
)
def test_whether_the_digest_uri_names_the_target(digest_uri: str, request_uri: str, same: bool) -> None:
    assert names_target(Credentials(uri=digest_uri), request_uri) == same


# -- The client --------------------------------------------------------------------------------------------------------


def chosen(*values: str, algorithms: Sequence[Algorithm] | None = None) -> list[str]:
    """Return the nonces of the challenges that are answered."""
    return [challenge.nonce for challenge in choose([parse_challenge(value) for value in values], algorithms)]


@pytest.mark.parametrize(
    "ignored",
    [
        'Basic realm="a"',
        "Negotiate",
        'NoOneKnows realm="a", nonce="0"',
        'Digest realm="a", nonce="0", algorithm=SHA-3, qop="auth"',
        'Digest realm="a", nonce="0", algorithm=MD5-sess, qop="auth"',
        'Digest realm="a", nonce="0", algorithm=AKAv1-MD5, qop="auth"',
        'Digest realm="a", nonce="0", algorithm=SHA-256, qop="auth-conf"',
        'Digest realm="a", algorithm=SHA-256, qop="auth"',
        'Digest realm="a", nonce="", algorithm=SHA-256, qop="auth"',
    ],
)
def test_what_is_not_understood_is_ignored(ignored: str) -> None:
    assert chosen(ignored) == []
    assert chosen(ignored, 'Digest realm="a", nonce="1"') == ["1"]


def test_the_topmost_of_each_realm_is_chosen() -> None:
    values = (
        'Digest realm="a", nonce="1", algorithm=MD5, qop="auth"',
        'Digest realm="b", nonce="2", algorithm=SHA-512-256, qop="auth"',
        'Digest realm="a", nonce="3", algorithm=SHA-256, qop="auth"',
        'Digest realm="b", nonce="4", algorithm=MD5, qop="auth"',
    )
    assert chosen(*values) == ["1", "2"]
    assert choose([Challenge(scheme="Other", realm="a", nonce="0")]) == ()
    # "unless a local policy dictates otherwise".
    assert chosen(*values, algorithms=[SHA_256]) == ["3"]
    assert chosen(*values, algorithms=[MD5, SHA_512_256]) == ["1", "2"]
    assert chosen(*values, algorithms=[]) == []


@pytest.mark.parametrize(
    ("offered", "used"),
    [
        (("auth",), "auth"), (("auth-int",), "auth-int"), (("auth-int", "auth"), "auth"),
        (("x", "auth-int"), "auth-int"), (("x", "auth", "y"), "auth"), ((), ""),
    ],
)  # fmt: skip
def test_of_qop_auth_is_preferred(offered: tuple[str, ...], used: str) -> None:
    challenge = Challenge(realm=REALM, nonce=NONCE, algorithm="SHA-256", qop=offered)
    credentials = answer(challenge, USER, PASSWORD, method="MESSAGE", uri=URI, body=b"hi", cnonce="c", nc=26)

    assert credentials.qop == used
    assert (credentials.nc, credentials.cnonce) == (("0000001a", "c") if used else ("", ""))
    assert check(credentials, "MESSAGE", b"hi", bobs_ha1(SHA_256))


def test_an_answer_says_what_the_challenge_said() -> None:
    challenge = Challenge(realm='a "b"', nonce="n\\", algorithm="sha-256", qop=("auth",), opaque="")
    credentials = answer(challenge, "bob", "p", method="MESSAGE", uri="sip:a", cnonce="c")
    assert credentials == Credentials(
        username="bob",
        realm='a "b"',
        nonce="n\\",
        uri="sip:a",
        response=credentials.response,
        algorithm="sha-256",
        cnonce="c",
        opaque="",
        qop="auth",
        nc="00000001",
    )
    plain = answer(Challenge(realm="a", nonce="n"), "bob", "p", method="MESSAGE", uri="sip:a", cnonce="c")
    assert str(plain) == f'Digest username="bob", realm="a", nonce="n", uri="sip:a", response="{plain.response}"'


@pytest.mark.parametrize(
    "challenge",
    [
        Challenge(realm=REALM, nonce=NONCE, algorithm="SHA-3"),
        Challenge(realm=REALM, nonce=NONCE, qop=("auth-conf",)),
        Challenge(scheme="Basic", params='realm="a"'),
    ],
)
def test_what_cannot_be_answered(challenge: Challenge) -> None:
    with pytest.raises(LocalError) as caught:
        answer(challenge, USER, PASSWORD, method="MESSAGE", uri=URI, cnonce="c")
    assert PASSWORD not in str(caught.value)


_TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)


@given(
    st.tuples(_TEXTS, _TEXTS, _TEXTS),
    st.permutations(SUPPORTED),
    st.sampled_from([(), ("auth",), ("auth-int",), ("auth-int", "auth")]),
    st.integers(1, 2**32 - 1),
    st.binary(max_size=8),
)
def test_what_a_client_answers_a_server_takes(
    texts: tuple[str, str, str], algorithms: list[Algorithm], qop: tuple[str, ...], nc: int, body: bytes
) -> None:
    realm, username, password = texts
    nonces = issuer()
    asked = [parse_challenge(value) for value in challenges(realm, nonces.issue(realm, at(10)), algorithms)]
    (challenge,) = choose(asked)
    challenge = msgspec.structs.replace(challenge, qop=qop)
    written = str(answer(challenge, username, password, method="MESSAGE", uri=URI, body=body, cnonce="c", nc=nc))

    found = select([parse_credentials(written)], realm, algorithms, nonces, at(20))
    assert found is not None
    assert Algorithm.named(found.algorithm) is algorithms[0]
    stored = ha1(algorithms[0], found.username, realm, password)
    assert admit(found, "MESSAGE", body, stored, nonces, at(20)) is Verdict.ADMITTED


def test_neither_password_nor_ha1_is_shown() -> None:
    secrets = [PASSWORD, *(bobs_ha1(algorithm) for algorithm in SUPPORTED)]
    nonces = issuer()
    (challenge,) = offer(nonces.issue(REALM, at(10)))
    credentials = signed(challenge.nonce)
    verdict = admit(credentials, "REGISTER", b"", bobs_ha1(SHA_256), nonces, at(10))

    shown = "".join(f"{value!r}{value}" for value in (challenge, credentials, nonces, verdict))
    assert "bob" in shown
    assert [secret for secret in secrets if secret in shown] == []
