"""What a stored message's challenges and redirections lead to, and whose are followed."""

import pytest

from msilo_core import Account, Aor, Config, DeliveryConfig, SiloConfig, SiloRoute
from msilo_core.actions import LookedUp, LookUp
from msilo_core.errors import LocalError
from tests.core.world import BOB, World, answer, body_of, finished, header, message, register

PROXY = ("127.0.0.9", 5070)
ACCOUNT = Account("silo", "secret of the silo", "example.com")

CHALLENGE = 'Digest realm="example.com", nonce="{}", qop="auth", algorithm=SHA-256'


def asked(status: str, *names: str, nonce: str = "abc", more: str = "") -> str:
    """Return a status line with challenges in these headers."""
    lines = "".join(f"\r\n{name}: {CHALLENGE.format(nonce)}{more}" for name in names)
    return f"{status}{lines}"


def by_proxy(account: Account | None = ACCOUNT, headers: str = "") -> tuple[World, bytes]:
    """Return a server that has sent bob's message to the outbound proxy, and that."""
    silo = SiloConfig(outbound_proxy="sip:127.0.0.9:5070")
    world = World(Config(silo=silo, delivery=DeliveryConfig(account=account)), route=SiloRoute())
    world.datagram(message(headers=headers))
    _, sent = world.datagram(register(), BOB)
    return world, sent


def to_phone() -> tuple[World, bytes]:
    """Return a server that has sent bob's message to his phone, which is trusted, and that."""
    world = World(Config(delivery=DeliveryConfig(account=ACCOUNT)))
    world.datagram(message())
    _, sent = world.datagram(register(), BOB)
    return world, sent


# -- Challenges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "name", "credentials"),
    [
        ("407 Proxy Authentication Required", "Proxy-Authenticate", "Proxy-Authorization"),
        ("401 Unauthorized", "WWW-Authenticate", "Authorization"),
    ],
)
def test_proxy_that_challenges_is_answered_at_once(status: str, name: str, credentials: str) -> None:
    world, sent = by_proxy()
    (again,) = world.datagram(answer(sent, asked(status, name)), PROXY)
    assert header(again, credentials).startswith('Digest username="silo", realm="example.com"')
    assert b"secret" not in again
    assert (header(sent, "CSeq"), header(again, "CSeq")) == ("7 MESSAGE", "8 MESSAGE")
    for same in ("Call-ID", "From", "To"):
        assert header(again, same) == header(sent, same)
    assert body_of(again) == b"hello"
    world.datagram(answer(again), PROXY)
    assert world.waiting() == []


def test_at_each_attempt_it_is_the_same_message() -> None:
    world, sent = by_proxy()
    (first,) = world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate")), PROXY)
    world.datagram(answer(first, "503 Busy"), PROXY)
    sent, *_ = world.pass_time(11_000)
    (second,) = world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate", nonce="xyz")), PROXY)
    for same in ("Call-ID", "From", "To", "CSeq"):
        assert header(second, same) == header(first, same)


def test_proxy_and_server_behind_it() -> None:
    world, sent = by_proxy()
    (second,) = world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate")), PROXY)
    (third,) = world.datagram(answer(second, asked("401 Too", "WWW-Authenticate")), PROXY)
    assert header(third, "Proxy-Authorization")
    assert header(third, "Authorization")
    world.datagram(answer(third), PROXY)
    assert world.waiting() == []


def test_stale_nonce_is_answered_and_a_wrong_password_not_twice() -> None:
    world, sent = by_proxy()
    (second,) = world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate")), PROXY)
    stale = asked("407 Please", "Proxy-Authenticate", nonce="new", more=", stale=true")
    (third,) = world.datagram(answer(second, stale), PROXY)
    assert world.datagram(answer(third, asked("407 Please", "Proxy-Authenticate", nonce="third")), PROXY) == []
    (row,) = finished(world.store.list())
    assert (row.attempts, row.reason) == (1, "Please")


def test_one_that_is_never_content_is_left() -> None:
    world, sent = by_proxy()

    def stale(number: int) -> str:
        return asked("407 Please", "Proxy-Authenticate", nonce=f"n{number}", more=", stale=true")

    for number in range(4):
        (sent,) = world.datagram(answer(sent, stale(number)), PROXY)
    assert world.datagram(answer(sent, stale(4)), PROXY) == []
    assert world.waiting() == [b"hello"]


@pytest.mark.parametrize(
    "status", ["407 Nothing", "407 Basic\r\nProxy-Authenticate: Basic realm=x", "401 Broken\r\nWWW-Authenticate: ,,"]
)
def test_challenge_that_cannot_be_answered_is_a_failure(status: str) -> None:
    world, sent = by_proxy()
    assert world.datagram(answer(sent, status), PROXY) == []
    assert world.waiting() == [b"hello"]


def test_without_an_account_nothing_is_answered() -> None:
    world, sent = by_proxy(None)
    assert world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate")), PROXY) == []


@pytest.mark.parametrize(("status", "name"), [("407 Please", "Proxy-Authenticate"), ("401 Please", "WWW-Authenticate")])
def test_phone_behind_the_proxy_gets_no_answer_for_a_realm_of_its_own(status: str, name: str) -> None:
    """It would be what a guess of the password can be tried on, or the answer to a challenge of another server."""
    world, sent = by_proxy()
    evil = asked(status, name).replace("example.com", "evil.example.com")
    assert world.datagram(answer(sent, evil), PROXY) == []
    assert world.waiting() == [b"hello"]


def test_challenge_of_the_proxy_is_answered_beside_another() -> None:
    world, sent = by_proxy()
    other = asked("", "WWW-Authenticate").replace("example.com", "evil.example.com")
    (again,) = world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate") + other), PROXY)
    assert header(again, "Proxy-Authorization")
    assert header(again, "Authorization") == ""


def test_phone_is_not_answered_though_it_is_trusted() -> None:
    world, sent = to_phone()
    assert world.datagram(answer(sent, asked("401 Please", "WWW-Authenticate")), BOB) == []


def test_account_without_a_realm_is_refused() -> None:
    with pytest.raises(LocalError, match="realm is empty"):
        DeliveryConfig(account=Account("silo", "secret"))


@pytest.mark.parametrize(
    "status", [asked("401 Please", "WWW-Authenticate"), "302 Moved\r\nContact: <sip:bob@127.0.0.3:5099>"]
)
def test_others_are_not_followed(status: str) -> None:
    """They could have mail sent to anybody."""
    world = World()
    world.datagram(message())
    world.datagram(register(), BOB)
    world.pass_time(40_000)
    other = World(Config(trusted=("10.0.0.0/8",), delivery=DeliveryConfig(account=ACCOUNT)))
    # When what the other server holds has run out.
    other.store, other.mono_ms = world.store, world.mono_ms + 60_000
    world.mono_ms = other.mono_ms
    (sent,) = other.carry_out(other.engine.dump("sip:bob@example.com", None, other.now))
    assert other.datagram(answer(sent, status), BOB) == []
    assert other.waiting() == [b"hello"]


# -- Redirections ------------------------------------------------------------------------------------------------------


def test_redirection_by_the_proxy_goes_by_way_of_it() -> None:
    world, sent = by_proxy()
    moved = "302 Moved\r\nContact: <sip:bob@elsewhere.example.com>;q=0.5, <sip:bob@there.example.com?subject=x>"
    (again,) = world.datagram(answer(sent, moved), PROXY)
    assert again.startswith(b"MESSAGE sip:bob@there.example.com SIP/2.0\r\n")
    assert header(again, "Route") == "<sip:127.0.0.9:5070;lr>"
    assert header(again, "CSeq") == "7 MESSAGE"
    assert world.sent[-1].flow.remote == PROXY
    world.datagram(answer(again), PROXY)
    assert world.waiting() == []


@pytest.mark.parametrize("status", [300, 301, 302])
def test_redirection_by_a_trusted_phone_goes_to_an_address(status: int) -> None:
    world, sent = to_phone()
    contacts = "<sips:bob@127.0.0.3>, <sip:bob@name.example.com>, <sip:bob@[::1]>, <sip:bob@127.0.0.3:5099>;q=0.1"
    (again,) = world.datagram(answer(sent, f"{status} Moved\r\nContact: {contacts}"), BOB)
    assert again.startswith(b"MESSAGE sip:bob@127.0.0.3:5099 SIP/2.0\r\n")
    assert world.sent[-1].flow.remote == ("127.0.0.3", 5099)
    # The contact that redirected has a message outstanding until the other has answered.
    assert len(world.datagram(message(b"two", number=2))) == 1
    (second,) = world.datagram(answer(again), ("127.0.0.3", 5099))
    assert body_of(second) == b"two"


@pytest.mark.parametrize(
    "status",
    [
        "302 Nowhere", "302 All\r\nContact: *", "302 Same\r\nContact: <sip:bob@127.0.0.1:5072>",
        "302 Name\r\nContact: <sip:bob@example.org>", "302 Broken\r\nContact: <",
        "380 Else\r\nContact: <sip:b@127.0.0.3>",
        "305 Proxy\r\nContact: <sip:127.0.0.3>", "302 Sctp\r\nContact: <sip:bob@127.0.0.3;transport=sctp>",
    ],
)  # fmt: skip
def test_redirection_that_leads_nowhere_is_a_failure(status: str) -> None:
    world, sent = to_phone()
    assert world.datagram(answer(sent, status), BOB) == []
    assert world.waiting() == [b"hello"]


def test_redirection_in_a_circle_ends() -> None:
    world, sent = to_phone()
    here, there = "302 A\r\nContact: <sip:bob@127.0.0.1:5072>", "302 B\r\nContact: <sip:bob@127.0.0.3:5099>"
    for number in range(4):
        (sent,) = world.datagram(answer(sent, here if number % 2 else there), BOB)
    assert world.datagram(answer(sent, there), BOB) == []
    assert world.waiting() == [b"hello"]


@pytest.mark.parametrize("moved", [True, False])
def test_connection_that_is_gone_elsewhere_says_nothing_of_the_contact(moved: bool) -> None:
    world, sent = to_phone()
    if moved:
        (sent,) = world.datagram(answer(sent, "302 Moved\r\nContact: <sip:bob@127.0.0.3:5099>"), BOB)
        assert header(sent, "Via") != header(world.sent[1].data, "Via")
    world.datagram(answer(sent, "430 Flow Failed"), ("127.0.0.3", 5099) if moved else BOB)
    (alive,) = finished(world.store.look_up([LookUp(1, Aor("bob", "example.com"), world.now.unix_s)]))
    assert isinstance(alive, LookedUp)
    assert len(alive.bindings) == moved


def test_answer_after_another_phone_has_taken_it_is_not_followed() -> None:
    world = World(Config(delivery=DeliveryConfig(account=ACCOUNT)))
    world.datagram(message())
    _, one, two = world.datagram(register(contact="<sip:bob@127.0.0.1:5072>, <sip:bob@127.0.0.1:5073>"), BOB)
    world.datagram(answer(one), BOB)
    assert world.datagram(answer(two, "302 Moved\r\nContact: <sip:bob@127.0.0.3:5099>"), BOB) == []
    assert world.waiting() == []


def test_largest_number_stays_within_what_a_cseq_may_be() -> None:
    silo = SiloConfig(outbound_proxy="sip:127.0.0.9:5070")
    world = World(Config(silo=silo, delivery=DeliveryConfig(account=ACCOUNT)), route=SiloRoute())
    world.datagram(message().replace(b"CSeq: 7 ", b"CSeq: 2147483647 "))
    _, sent = world.datagram(register(), BOB)
    (again,) = world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate")), PROXY)
    assert header(again, "CSeq") == "2147483647 MESSAGE"


# -- When it is too late -----------------------------------------------------------------------------------------------


def test_message_that_expired_meanwhile_is_not_sent_again() -> None:
    world, sent = by_proxy(headers="Expires: 10\r\n")
    world.pass_time(10_000)
    assert world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate")), PROXY) == []


def test_message_that_another_server_may_have_is_not_sent_again() -> None:
    world, sent = by_proxy()
    world.mono_ms += 15_000
    assert world.datagram(answer(sent, asked("407 Please", "Proxy-Authenticate")), PROXY) == []
