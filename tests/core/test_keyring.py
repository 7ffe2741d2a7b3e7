"""What a client remembers of those that challenge it."""

import msgspec
import pytest

from msilo_core.digest import SUPPORTED, Algorithm, Verdict, admit, ha1
from msilo_core.fields import Challenge, Credentials
from msilo_core.keyring import Answer, Keyring
from tests.core.auth import PASSWORD, REALM, URI, USER, at, bobs_ha1, entropy, issuer, offer

AUTHORIZATION, PROXY_AUTHORIZATION = "Authorization", "Proxy-Authorization"


def keyring(algorithms: tuple[Algorithm, ...] | None = None) -> Keyring:
    """Return the user's keyring before the first challenge."""
    return Keyring(USER, PASSWORD, entropy(2), algorithms)


def challenge(nonce: str, realm: str = REALM, *, stale: bool = False, qop: tuple[str, ...] = ("auth",)) -> Challenge:
    """Return a challenge with SHA-256."""
    return Challenge(realm=realm, nonce=nonce, algorithm="SHA-256", qop=qop, stale=stale)


def uses(answers: tuple[Answer, ...]) -> list[tuple[str, str, str, str]]:
    """Return header, realm, nonce and nc of each answer."""
    return [(name, value.realm, value.nonce, value.nc) for name, value in answers]


def test_it_has_nothing_to_say_before_it_was_challenged() -> None:
    assert keyring().answers("REGISTER", URI) == ()


def test_what_it_answers_a_server_admits_now_and_later() -> None:
    nonces, keys = issuer(), keyring()
    assert keys.challenged(offer(nonces.issue(REALM, at(10)), SUPPORTED), (), ())

    for nc in ("00000001", "00000002", "00000003"):
        ((name, credentials),) = keys.answers("MESSAGE", "sip:alice@biloxi.com", b"hello")
        assert name == AUTHORIZATION
        assert (credentials.username, credentials.uri, credentials.nc) == (USER, "sip:alice@biloxi.com", nc)
        stored = bobs_ha1(Algorithm.SHA_256)
        assert admit(credentials, "MESSAGE", b"hello", stored, nonces, at(20)) is Verdict.ADMITTED


def test_each_request_has_a_cnonce_of_its_own() -> None:
    keys = keyring()
    keys.challenged([challenge("n")], (), ())
    cnonces = {keys.answers("REGISTER", URI)[0][1].cnonce for _ in range(100)}
    assert len(cnonces) == 100
    assert {len(cnonce) for cnonce in cnonces} == {16}


def test_body_and_method_are_covered_where_that_is_asked_for() -> None:
    keys = keyring()
    keys.challenged([challenge("n", qop=("auth-int",))], (), ())
    ((_, credentials),) = keys.answers("MESSAGE", URI, b"hello")
    nonces = issuer()

    stored = bobs_ha1(Algorithm.SHA_256)
    assert admit(credentials, "MESSAGE", b"hello", stored, nonces, at(0)) is Verdict.STALE
    assert admit(credentials, "MESSAGE", b"hallo", stored, nonces, at(0)) is Verdict.DENIED
    assert admit(credentials, "REGISTER", b"hello", stored, nonces, at(0)) is Verdict.DENIED


def test_each_realm_of_each_header_has_its_answer() -> None:
    keys = keyring()
    assert keys.challenged([challenge("1", "a"), challenge("2", "b")], [challenge("3", "a")], ())
    assert uses(keys.answers("MESSAGE", URI)) == [
        (AUTHORIZATION, "a", "1", "00000001"),
        (AUTHORIZATION, "b", "2", "00000001"),
        (PROXY_AUTHORIZATION, "a", "3", "00000001"),
    ]


def test_one_after_the_other_they_add_up() -> None:
    # First the proxy asks, then the server behind it: the third request has answers for both.
    keys = keyring()
    assert keys.challenged((), [challenge("p", "proxy")], ())
    sent = keys.answers("MESSAGE", URI)
    assert keys.challenged([challenge("s", "server")], (), sent)
    assert uses(keys.answers("MESSAGE", URI)) == [
        (PROXY_AUTHORIZATION, "proxy", "p", "00000002"),
        (AUTHORIZATION, "server", "s", "00000001"),
    ]


@pytest.mark.parametrize(
    "offered",
    [
        [],
        [Challenge(scheme="Basic", params='realm="a"')],
        [Challenge(realm="a", nonce="n", algorithm="SHA-3", qop=("auth",))],
        [Challenge(realm="a", nonce="n", algorithm="MD5", qop=("auth",))],
        [challenge("n", qop=("auth-conf",))],
    ],
)
def test_it_tells_when_it_cannot_answer(offered: list[Challenge]) -> None:
    keys = keyring((Algorithm.SHA_256,))
    assert not keys.challenged(offered, offered, ())
    assert keys.answers("REGISTER", URI) == ()
    assert keys.challenged([*offered, challenge("n")], (), ())


def test_a_password_that_was_rejected_is_not_tried_again() -> None:
    keys = keyring()
    keys.challenged([challenge("1")], (), ())
    sent = keys.answers("REGISTER", URI)

    assert not keys.challenged([challenge("2")], (), sent)
    assert keys.answers("REGISTER", URI) == ()
    # A later request begins anew.
    assert keys.challenged([challenge("3")], (), ())
    assert uses(keys.answers("REGISTER", URI)) == [(AUTHORIZATION, REALM, "3", "00000001")]


def test_a_stale_nonce_is_followed_by_a_new_one() -> None:
    keys = keyring()
    keys.challenged([challenge("1")], (), ())
    sent = keys.answers("REGISTER", URI)

    assert keys.challenged([challenge("2", stale=True)], (), sent)
    sent = keys.answers("REGISTER", URI)
    assert uses(sent) == [(AUTHORIZATION, REALM, "2", "00000001")]
    # One that is stale from the beginning is no way on.
    assert not keys.challenged([challenge("2", stale=True)], (), sent)


def test_a_nonce_that_was_good_before_is_stale_also_where_the_server_does_not_say_so() -> None:
    keys = keyring()
    keys.challenged([challenge("1")], (), ())
    keys.answers("REGISTER", URI)
    sent = keys.answers("REGISTER", URI)

    assert keys.challenged([challenge("2")], (), sent)
    sent = keys.answers("REGISTER", URI)
    assert uses(sent) == [(AUTHORIZATION, REALM, "2", "00000001")]
    # Now it is the password.
    assert not keys.challenged([challenge("3")], (), sent)


def test_a_nonce_that_comes_again_is_no_new_one() -> None:
    keys = keyring()
    keys.challenged([challenge("1")], (), ())
    first = keys.answers("REGISTER", URI)
    sent = keys.answers("REGISTER", URI)

    # To a request that had not answered yet it is the nonce to count on with.
    assert keys.challenged([challenge("1")], (), ())
    assert uses(keys.answers("REGISTER", URI)) == [(AUTHORIZATION, REALM, "1", "00000003")]
    for refused in (first, sent):
        assert not keys.challenged([challenge("1")], (), refused)


def test_the_rejection_of_one_realm_is_not_that_of_another() -> None:
    keys = keyring()
    keys.challenged([challenge("1", "a")], [challenge("2", "a"), challenge("3", "b")], ())
    sent = keys.answers("MESSAGE", URI)

    assert keys.challenged([challenge("4", "a")], [challenge("5", "c")], sent)
    assert uses(keys.answers("MESSAGE", URI)) == [
        (PROXY_AUTHORIZATION, "a", "2", "00000002"),
        (PROXY_AUTHORIZATION, "b", "3", "00000002"),
        (PROXY_AUTHORIZATION, "c", "5", "00000001"),
    ]


def test_the_rejection_of_one_header_is_not_that_of_the_other() -> None:
    keys = keyring()
    keys.challenged([challenge("1")], (), ())
    sent = keys.answers("MESSAGE", URI)

    assert keys.challenged((), [challenge("2")], sent)
    assert uses(keys.answers("MESSAGE", URI)) == [
        (AUTHORIZATION, REALM, "1", "00000002"),
        (PROXY_AUTHORIZATION, REALM, "2", "00000001"),
    ]


def test_a_nonce_without_qop_is_used_once() -> None:
    keys = keyring()
    assert keys.challenged([challenge("1", qop=())], (), ())
    sent = keys.answers("REGISTER", URI)
    assert uses(sent) == [(AUTHORIZATION, REALM, "1", "")]
    assert keys.answers("REGISTER", URI) == ()

    assert not keys.challenged([challenge("2", qop=())], (), sent)
    assert keys.challenged([challenge("3", qop=())], (), ())
    assert uses(keys.answers("REGISTER", URI)) == [(AUTHORIZATION, REALM, "3", "")]


def test_so_many_realms_are_remembered_and_the_oldest_goes() -> None:
    keys = keyring()
    for number in range(8):
        keys.challenged([challenge("n", f"realm{number}")], (), ())
    # One that is known takes nobody's place.
    keys.challenged([challenge("m", "realm1")], (), ())
    assert len(keys.answers("REGISTER", URI)) == 8

    keys.challenged([challenge("n", f"many{number}") for number in range(2)], (), ())
    realms = [value.realm for _, value in keys.answers("REGISTER", URI)]
    assert realms == ["realm3", "realm4", "realm5", "realm6", "realm7", "realm1", "many0", "many1"]


def test_a_name_is_hashed_for_a_server_that_wants_it_so() -> None:
    keys = keyring()
    keys.challenged([msgspec.structs.replace(challenge("n"), userhash=True)], (), ())
    ((_, credentials),) = keys.answers("REGISTER", URI)

    assert credentials.userhash
    assert credentials.username == Algorithm.SHA_256.digest(f"{USER}:{REALM}".encode())
    # The response covers the name itself.
    plain = msgspec.structs.replace(credentials, userhash=False)
    stored = ha1(Algorithm.SHA_256, USER, REALM, PASSWORD)
    assert admit(plain, "REGISTER", b"", stored, issuer(), at(0)) is Verdict.STALE


def test_neither_password_nor_ha1_is_shown() -> None:
    keys = keyring()
    keys.challenged([challenge("n"), Challenge(realm="b", nonce="m")], (), ())
    answers = keys.answers("REGISTER", URI)
    shown = f"{keys!r}{keys}{answers!r}" + "".join(str(value) for _, value in answers)

    assert USER in shown
    assert PASSWORD not in shown
    for algorithm in SUPPORTED:
        for realm in (REALM, "b"):
            assert ha1(algorithm, USER, realm, PASSWORD) not in shown


def test_answers_are_headers() -> None:
    keys = keyring()
    keys.challenged([challenge("n")], (), ())
    ((name, credentials),) = keys.answers("REGISTER", URI)
    assert isinstance(credentials, Credentials)
    assert f"{name}: {credentials}".startswith(f'Authorization: Digest username="{USER}", realm="{REALM}", nonce="n", ')
