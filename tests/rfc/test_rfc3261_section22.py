"""RFC 3261 section 22 with RFC 7616 and RFC 8760: who may register, and who may send; the server and our user agent."""

from collections import deque

import pytest

from msilo_core import (
    Account,
    Answered,
    Arrived,
    AuthConfig,
    Call,
    Config,
    Limits,
    Moment,
    Send,
    ServerRoute,
    User,
    UserAgent,
    UserFound,
)
from msilo_core.actions import Action, FindUser, StorageFailed
from msilo_core.digest import Algorithm, answer
from msilo_core.fields import Challenge, Credentials, parse_challenge
from msilo_core.uri import Aor, parse_aor
from tests.core.world import (
    ALICE,
    BOB,
    EPOCH_MS,
    World,
    finished,
    header,
    message,
    register,
    status_of,
    udp,
)
from tests.core.world import answer as phones_answer

ALICES, BOBS = Aor("alice", "example.com"), Aor("bob", "example.com")
STRICT = Config(domains=frozenset({"example.com"}), trusted=(), auth=AuthConfig())


def server(config: Config = STRICT, limits: Limits | None = None) -> World:
    """Return a server that trusts no network and knows alice and bob."""
    world = World(config, limits)
    for owner in (ALICES, BOBS):
        finished(world.store.add_user(User.with_password(owner, f"secret of {owner.username}")))
    return world


def challenges(data: bytes) -> list[Challenge]:
    """Return what a 401 or 407 asks for."""
    name = b"WWW-Authenticate: " if status_of(data) == 401 else b"Proxy-Authenticate: "
    lines = [line for line in data.split(b"\r\n") if line.startswith(name)]
    return [parse_challenge(line.removeprefix(name).decode()) for line in lines]


def answered(
    request: bytes, challenge: Challenge, user: str, password: str, *, nc: int = 1, uri: str | None = None
) -> bytes:
    """Return a request with credentials and a branch of its own."""
    method, request_uri, _ = request.split(b" ", 2)
    credentials = answer(
        challenge,
        user,
        password,
        method=method.decode(),
        uri=uri if uri is not None else request_uri.decode(),
        body=request.partition(b"\r\n\r\n")[2],
        cnonce="c",
        nc=nc,
    )
    return with_credentials(request, credentials, nc)


def with_credentials(request: bytes, credentials: Credentials, nc: int = 1) -> bytes:
    name = "Authorization" if request.startswith(b"REGISTER") else "Proxy-Authorization"
    request = request.replace(b"branch=z9hG4bK", f"branch=z9hG4bKauth{nc}".encode())
    return request.replace(b"Content-Length", f"{name}: {credentials}\r\nContent-Length".encode())


def challenged(world: World, request: bytes) -> Challenge:
    (asked,) = world.datagram(request, BOB)
    return challenges(asked)[0]


# -- What is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("request_", "status"), [(register(), 401), (message(), 407)], ids=["REGISTER", "MESSAGE"])
def test_whoever_is_not_known_is_asked(request_: bytes, status: int) -> None:
    """Section 22.2 and 22.3: 401 from a registrar, 407 from a proxy. RFC 8760 section 2.3: one for each algorithm."""
    world = server()
    (asked,) = world.datagram(request_, BOB)
    assert status_of(asked) == status
    offered = challenges(asked)
    assert [challenge.algorithm for challenge in offered] == ["SHA-256", "SHA-512-256", "MD5"]
    assert {(challenge.realm, challenge.qop, challenge.stale) for challenge in offered} == {
        ("example.com", ("auth",), False)
    }
    # Section 26.3.2.4: "behaving statelessly towards unauthenticated requests".
    assert world.engine.next_timeout() == World(STRICT).engine.next_timeout()


def test_algorithms_are_a_setting() -> None:
    world = server(Config(trusted=(), auth=AuthConfig(algorithms=("MD5", "SHA-256"))))
    (asked,) = world.datagram(register(), BOB)
    assert [challenge.algorithm for challenge in challenges(asked)] == ["MD5", "SHA-256"]


def test_trusted_network_is_not_asked() -> None:
    world = server(Config(trusted=("127.0.0.0/8",), auth=AuthConfig()))
    assert status_of(world.datagram(register(), BOB)[0]) == 200


def test_nobody_is_asked_where_there_are_no_users() -> None:
    world = World(Config(trusted=()))
    assert status_of(world.datagram(register(), BOB)[0]) == 403


def test_options_and_cancel_are_not_asked() -> None:
    """Section 22.1: "Servers MUST NOT challenge ... ACK"; CANCEL "SHOULD NOT" be (section 22.1)."""
    world = server()
    for method, status in (("OPTIONS", 200), ("CANCEL", 481)):
        request = message().replace(b"MESSAGE sip", f"{method} sip".encode())
        request = request.replace(b"7 MESSAGE", f"7 {method}".encode())
        assert status_of(world.datagram(request)[0]) == status


# -- Who is let in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(3))
def test_right_password_registers_by_every_algorithm(index: int) -> None:
    world = server()
    (asked,) = world.datagram(register(), BOB)
    challenge = challenges(asked)[index]
    (ok,) = world.datagram(answered(register(), challenge, "bob", "secret of bob"), BOB)
    assert status_of(ok) == 200


def test_success_carries_no_authentication_info() -> None:
    # Section 20.6 and RFC 7616 section 3.5 have it, for whoever wants the server to prove itself; both as a MAY.
    world = server()
    (ok,) = world.datagram(answered(register(), challenged(world, register()), "bob", "secret of bob"), BOB)
    assert (status_of(ok), header(ok, "Authentication-Info")) == (200, "")


def test_right_password_sends_and_the_credentials_stay_here() -> None:
    """Section 22.3: the credentials for us are used up, those for a proxy behind us go on."""
    world = server()
    ok = world.datagram(answered(register(), challenged(world, register()), "bob", "secret of bob"), BOB)
    assert [status_of(data) for data in ok] == [200]
    other = 'Proxy-Authorization: Digest username="alice", realm="elsewhere", nonce="n", uri="sip:x", response="r"\r\n'
    request = message(headers=other)
    (relayed,) = world.datagram(answered(request, challenged(world, request), "alice", "secret of alice"))
    assert relayed.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 ")
    assert relayed.count(b"Proxy-Authorization") == 1
    assert 'realm="elsewhere"' in header(relayed, "Proxy-Authorization")


def test_route_is_told_who_it_is() -> None:
    class Told(ServerRoute):
        def request_route(self, call: Call) -> None:
            told.append((call.user, call.identity, call.is_trusted))
            super().request_route(call)

    told: list[tuple[Aor | None, Aor | None, bool]] = []
    world = World(STRICT, route=Told())
    finished(world.store.add_user(User.with_password(ALICES, "x")))
    request = message(headers="P-Asserted-Identity: <sip:boss@example.com>\r\n")
    world.datagram(answered(request, challenged(world, request), "alice", "x"))
    assert told == [(ALICES, ALICES, False)]
    (row,) = finished(world.store.list())
    assert "boss" not in row.extra_hdrs


def test_whoever_logs_in_is_not_believed_beyond_that() -> None:
    """RFC 3325 section 5: trusted are networks, and a user's phone is of none."""
    asserted = "P-Asserted-Identity: <sip:bob@example.com>\r\nP-Preferred-Identity: <sip:bob@example.com>\r\n"
    world = server()
    request = message(headers=f"{asserted}Subject: s\r\n")
    (accepted,) = world.datagram(answered(request, challenged(world, request), "alice", "secret of alice"))
    assert status_of(accepted) == 202
    (row,) = finished(world.store.list())
    assert row.extra_hdrs == "Subject: s\r\n"


def test_credentials_are_not_stored() -> None:
    world = server()
    (accepted,) = world.datagram(answered(message(), challenged(world, message()), "alice", "secret of alice"))
    assert status_of(accepted) == 202
    (row,) = finished(world.store.list())
    assert "Digest" not in row.extra_hdrs


@pytest.mark.parametrize(
    ("user", "password"), [("bob", "secret of alice"), ("bob", ""), ("nobody", "x"), ("Bob", "secret of bob")]
)
def test_wrong_password_is_asked_again(user: str, password: str) -> None:
    world = server()
    (asked,) = world.datagram(answered(register(), challenged(world, register()), user, password), BOB)
    assert (status_of(asked), challenges(asked)[0].stale) == (401, False)
    assert world.engine.statistics.dropped == {"wrong credentials": 1}


@pytest.mark.parametrize("user", ["", "a\0b", "\udcff", "x" * 256, "a\x85b"])
def test_name_that_nobody_can_have_is_not_looked_up(user: str) -> None:
    world = server()
    world.hold = {FindUser}
    challenge = challenged(world, register())
    credentials = answer(challenge, "bob", "x", method="REGISTER", uri="sip:example.com", cnonce="c")
    data = register().replace(b"branch=z9hG4bK", b"branch=z9hG4bKodd")
    value = str(credentials).replace('username="bob"', f'username="{user}"').replace("\0", "\\\0")
    data = data.replace(
        b"Content-Length", b"Authorization: " + value.encode("utf-8", "surrogateescape") + b"\r\nContent-Length"
    )
    (asked,) = world.datagram(data, BOB)
    assert status_of(asked) == 401
    assert not world.held


@pytest.mark.parametrize("user", ["a\u200cb", "a b", "é", "\u202e"])
def test_name_that_an_address_may_have_is_looked_up(user: str) -> None:
    world = server()
    owner = Aor(user, "example.com")
    assert parse_aor(str(owner)) == owner
    finished(world.store.add_user(User.with_password(owner, "secret")))
    request = register().replace(b"sip:bob@example.com", str(owner).encode())
    assert str(owner).encode() in request
    (accepted,) = world.datagram(answered(request, challenged(world, request), user, "secret"), BOB)
    assert status_of(accepted) == 200


@pytest.mark.parametrize("request_", [register("carol"), message().replace(b"sip:alice@", b"sip:bob@")])
def test_address_of_somebody_else_is_forbidden(request_: bytes) -> None:
    """Section 10.3 step 4, and the same for whoever sends: the identity must own the address."""
    world = server()
    (refused,) = world.datagram(answered(request_, challenged(world, request_), "alice", "secret of alice"), BOB)
    assert (status_of(refused), refused.partition(b"\r\n")[0]) == (403, b"SIP/2.0 403 Not Your Address")
    assert world.waiting() == []


@pytest.mark.parametrize(
    ("sender", "status"),
    [
        ("sip:alice@example.net", 403),
        ("tel:+12015550123", 400),
        ("sip:example.com", 400),
        ("sip:a%00@example.com", 400),
    ],
)
def test_sender_whom_nobody_here_knows(sender: str, status: int) -> None:
    world = server()
    request = message().replace(b"sip:alice@example.com>;tag", f"{sender}>;tag".encode())
    assert status_of(world.datagram(request)[0]) == status


def test_address_of_record_of_another_domain_is_not_asked_for() -> None:
    world = server()
    request = register().replace(b"To: <sip:bob@example.com>", b"To: <sip:bob@example.net>")
    assert status_of(world.datagram(request, BOB)[0]) == 403


def test_wrong_password_does_not_push_out_what_is_kept_for_others() -> None:
    """Section 26.3.2.4: servers challenge "behaving statelessly towards unauthenticated requests"."""
    world = server(limits=Limits(finished_transactions_max=1))
    request = answered(message(), challenges(world.datagram(message())[0])[0], "alice", "secret of alice")
    (accepted,) = world.datagram(request)
    challenge = challenged(world, register())
    assert status_of(world.datagram(answered(register(), challenge, "bob", "no secret"), BOB)[0]) == 401
    assert world.datagram(request) == [accepted]


def test_user_who_is_found_when_nobody_waits_any_more() -> None:
    world = server(limits=Limits(storage_ms=60_000))
    world.hold = {FindUser}
    assert world.datagram(answered(register(), challenged(world, register()), "bob", "no secret"), BOB) == []
    assert world.pass_time(33_000) == []
    assert [status_of(data) for data in world.let_go()] == [401]
    assert world.engine.is_idle


def test_store_that_does_not_answer() -> None:
    world = server()
    world.hold = {FindUser}
    request = answered(register(), challenged(world, register()), "bob", "secret of bob")
    assert world.datagram(request, BOB) == []
    # A repeat is no second attempt.
    assert world.datagram(request, BOB) == []
    (held,) = world.held
    (refused,) = world.carry_out(world.engine.complete(StorageFailed(held.token, "x"), world.now))
    assert status_of(refused) == 503
    assert 10 <= int(header(refused, "Retry-After")) <= 20


def test_too_many_senders_are_looked_up_and_others_register() -> None:
    world = server(limits=Limits(storage_actions_max=1))
    first, second = (
        answered(message(number=n), challenges(world.datagram(message(number=n))[0])[0], "alice", "secret of alice")
        for n in (1, 2)
    )
    world.hold = {FindUser}
    assert world.datagram(first) == []
    (refused,) = world.datagram(second)
    assert (status_of(refused), header(refused, "Retry-After")) == (503, "10")
    # Whoever says nothing of who it is needs no room.
    assert status_of(world.datagram(message(number=3))[0]) == 407
    request = answered(register(), challenged(world, register()), "bob", "secret of bob")
    assert world.datagram(request, BOB) == []
    accepted, registered, delivered = world.let_go()
    assert [status_of(accepted), status_of(registered)] == [202, 200]
    assert delivered.startswith(b"MESSAGE ")


def test_sender_who_is_known_has_a_rate_that_nobody_else_uses_up() -> None:
    world = server(limits=Limits(sender_rate=1, sender_burst=1))

    def sent(number: int, password: str = "secret of alice", headers: str = "") -> bytes:
        request = message(number=number, headers=headers)
        challenge = challenges(world.datagram(request)[0])[0]
        return world.datagram(answered(request, challenge, "alice", password))[0]

    assert status_of(sent(1, "no secret")) == 407
    assert status_of(sent(2)) == 202
    # Whom she says to be is not believed.
    refused = sent(3, headers="P-Asserted-Identity: <sip:dave@example.com>\r\n")
    assert (status_of(refused), header(refused, "Retry-After")) == (503, "1")
    assert world.pass_time(1_000) == []
    assert status_of(sent(4)) == 202


def test_only_registrations_that_are_carried_out_count() -> None:
    world = server(limits=Limits(registrations_per_s=1, registrations_burst=1))

    def signed(user: str, cseq: int, password: str = "") -> bytes:
        request = register(user, cseq=cseq)
        return answered(request, challenged(world, request), user, password or f"secret of {user}")

    assert status_of(world.datagram(signed("bob", 1, "no secret"), BOB)[0]) == 401
    first, second = signed("bob", 2), signed("alice", 3)
    # Both are let in while it is found out who they are; then there is room for one.
    world.hold = {FindUser}
    assert world.datagram(first, BOB) == world.datagram(second, BOB) == []
    told = world.let_go()
    assert [status_of(data) for data in told] == [200, 503]
    assert header(told[1], "Retry-After") == "1"
    # Now nobody is asked any more who it is.
    assert status_of(world.datagram(register("alice", cseq=4), BOB)[0]) == 503
    world.pass_time(1_000)
    assert status_of(world.datagram(signed("alice", 5), BOB)[0]) == 200


def test_user_of_a_kamailio_has_one_hash() -> None:
    world = World(Config(trusted=(), auth=AuthConfig(algorithms=("MD5",))))
    known = User.with_password(BOBS, "secret of bob")
    finished(world.store.add_user(User(owner=BOBS, ha1=known.ha1.upper())))
    (ok,) = world.datagram(answered(register(), challenged(world, register()), "bob", "secret of bob"), BOB)
    assert status_of(ok) == 200
    # One that hashes with SHA-256 keeps that in the same column.
    finished(world.store.add_user(User(owner=BOBS, ha1=known.ha1_sha256)))
    other = World(Config(trusted=(), auth=AuthConfig(algorithms=("SHA-256",))))
    other.store = world.store
    (ok,) = other.datagram(answered(register(cseq=2), challenged(other, register(cseq=2)), "bob", "secret of bob"), BOB)
    assert status_of(ok) == 200


# -- Nonces ------------------------------------------------------------------------------------------------------------


def test_nonce_serves_once_for_each_count() -> None:
    world = server()
    challenge = challenged(world, register())
    for nc, status in ((1, 200), (2, 200), (2, 401), (4, 200), (3, 200)):
        request = answered(register(cseq=nc), challenge, "bob", "secret of bob", nc=nc)
        request = request.replace(b"branch=", f"branch=z9hG4bK{world.mono_ms}".encode())
        world.pass_time(1)
        sent = world.datagram(request.replace(b"CSeq: ", f"CSeq: {world.mono_ms}".encode()), BOB)
        assert status_of(sent[-1]) == status
        if status == 401:
            # The password was right: the phone need not ask for it again.
            assert challenges(sent[-1])[0].stale


def test_nonce_that_is_too_old_is_stale() -> None:
    world = server(Config(trusted=(), auth=AuthConfig(nonce_lifetime_s=10)))
    challenge = challenged(world, register())
    world.pass_time(10_002)
    (asked,) = world.datagram(answered(register(), challenge, "bob", "secret of bob"), BOB)
    assert (status_of(asked), challenges(asked)[0].stale) == (401, True)
    (asked,) = world.datagram(answered(register(), challenge, "bob", "wrong", nc=2), BOB)
    assert (status_of(asked), challenges(asked)[0].stale) == (401, False)


def test_overheard_credentials_are_no_use_for_another_message() -> None:
    world = server()
    challenge = challenged(world, message())
    request = answered(message(), challenge, "alice", "secret of alice")
    assert status_of(world.datagram(request)[0]) == 202
    line = next(line for line in request.split(b"\r\n") if line.startswith(b"Proxy-Authorization"))
    forged = message(b"forged", number=2).replace(b"Content-Length", line + b"\r\nContent-Length")
    assert status_of(world.datagram(forged)[0]) == 407
    assert world.waiting() == [b"hello"]


# -- The digest-uri ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("sip:example.com", 200), ("sip:EXAMPLE.com", 200), ("sip:bob@example.com;x", 200), ("sip:127.0.0.1:5060", 200),
        ("sip:example.net", 400), ("sip:127.0.0.9", 400), ("tel:1", 400), ("", 400), ("no URI", 400),
    ],
)  # fmt: skip
def test_digest_uri(uri: str, status: int) -> None:
    """RFC 8760 section 2.6, bullet 6: it need not be the Request-URI, which a proxy may have changed, but for us."""
    world = server()
    (told,) = world.datagram(answered(register(), challenged(world, register()), "bob", "secret of bob", uri=uri), BOB)
    assert status_of(told) == status


@pytest.mark.parametrize("line", ["Authorization: Digest", "Authorization: Digest x", "Authorization: Digest a=b,a=c"])
def test_credentials_that_cannot_be_read(line: str) -> None:
    world = server()
    (refused,) = world.datagram(register(headers=f"{line}\r\n"), BOB)
    assert status_of(refused) == 400


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Basic YTpi", "Authorization: Digest username=\"bob\", realm=\"example.net\", nonce=\"n\"",
        'Authorization: Digest username="bob", realm="example.com", nonce="", uri="sip:example.com", response=""',
        "Proxy-Authorization: Digest realm=\"example.com\"",
    ],
)  # fmt: skip
def test_credentials_that_are_no_attempt_are_asked_for(line: str) -> None:
    world = server()
    (asked,) = world.datagram(register(headers=f"{line}\r\n"), BOB)
    assert (status_of(asked), challenges(asked)[0].stale) == (401, False)
    assert world.engine.statistics.dropped == {}


# -- The user agent ----------------------------------------------------------------------------------------------------


class Pair:
    """Our user agent and our server, with nothing but time between them."""

    def __init__(self, account: Account | None, config: Config = STRICT) -> None:
        self.world = server(config)
        self.agent = UserAgent(account=account, now=self.now)
        self.seen: list[Answered | Arrived] = []

    @property
    def now(self) -> Moment:
        return Moment(self.world.mono_ms, EPOCH_MS + self.world.mono_ms)

    def perform(self, actions: list[Action]) -> None:
        """Carry what the agent sends to the server, and what that sends back, until nobody says anything."""
        todo = deque(actions)
        while todo:
            action = todo.popleft()
            if isinstance(action, Send):
                for data in self.world.datagram(action.data, BOB):
                    todo.extend(self.agent.receive_datagram(data, udp(BOB), self.now))
            elif isinstance(action, Answered | Arrived):
                self.seen.append(action)

    def register(self) -> None:
        _, actions = self.agent.register(
            udp(BOB), aor_uri="sip:bob@example.com", contact_uri="sip:bob@127.0.0.1:5072", now=self.now
        )
        self.perform(actions)

    def pass_time(self, ms: int) -> None:
        self.world.pass_time(ms)
        self.perform(self.agent.handle_timeout(self.now))


BOBS_ACCOUNT = Account("bob", "secret of bob")


def test_agent_answers_a_challenge_and_what_waits_arrives() -> None:
    pair = Pair(BOBS_ACCOUNT)
    pair.world.datagram(answered(message(), challenged(pair.world, message()), "alice", "secret of alice"))
    pair.register()
    assert [type(seen) for seen in pair.seen] == [Answered, Arrived]
    first = pair.seen[0]
    assert isinstance(first, Answered)
    assert (first.method, first.status, first.number) == ("REGISTER", 200, 1)


def test_agent_answers_at_once_the_next_time() -> None:
    """RFC 7616 section 3.6: with the last nonce of the realm, counted."""
    pair = Pair(BOBS_ACCOUNT)
    pair.register()
    sent = len(pair.world.sent)
    pair.pass_time(200_000)
    number, actions = pair.agent.message(
        udp(BOB), from_uri="sip:bob@example.com", to_uri="sip:alice@example.com", body=b"x", now=pair.now
    )
    pair.perform(actions)
    assert pair.seen[-1] == Answered(number, "MESSAGE", 202, "Accepted", True)
    # The nonce of the registrar is not that of the proxy: asked once, 407, and then 202.
    assert [status_of(send.data) for send in pair.world.sent[sent:]] == [407, 202]
    pair.perform(pair.agent.unregister("sip:bob@example.com", pair.now))
    assert status_of(pair.world.sent[-1].data) == 200
    pair.perform(
        pair.agent.message(
            udp(BOB), from_uri="sip:bob@example.com", to_uri="sip:alice@example.com", body=b"y", now=pair.now
        )[1]
    )
    assert status_of(pair.world.sent[-1].data) == 202


def test_agent_whose_nonce_became_stale_tries_again() -> None:
    pair = Pair(BOBS_ACCOUNT, Config(trusted=(), auth=AuthConfig(nonce_lifetime_s=60)))
    pair.register()
    pair.pass_time(2_700_000)
    statuses = [status_of(send.data) for send in pair.world.sent]
    assert statuses == [401, 200, 401, 200]
    assert [seen.status for seen in pair.seen if isinstance(seen, Answered)] == [200, 200]


@pytest.mark.parametrize("account", [None, Account("bob", "wrong"), Account("nobody", "x")])
def test_agent_that_cannot_answer_says_so_once(account: Account | None) -> None:
    """Section 22.1: "MUST NOT re-attempt requests with the credentials that have just been rejected"."""
    pair = Pair(account)
    pair.register()
    assert [seen.status for seen in pair.seen if isinstance(seen, Answered)] == [401]
    assert len(pair.world.sent) == (1 if account is None else 2)


def test_agent_counts_cseq_up_and_keeps_the_call() -> None:
    """Section 22.2: the same Call-ID, To and From, and a CSeq one higher."""
    agent = UserAgent(account=BOBS_ACCOUNT, now=Moment(0, EPOCH_MS))
    _, (first,) = agent.message(
        udp(BOB), from_uri="sip:bob@example.com", to_uri="sip:a@b", body=b"x", now=Moment(0, EPOCH_MS)
    )
    assert isinstance(first, Send)
    asked = phones_answer(first.data, "401 Unauthorized").replace(
        b"Content-Length", b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth-int"\r\nContent-Length'
    )
    (second,) = (
        action for action in agent.receive_datagram(asked, udp(BOB), Moment(0, EPOCH_MS)) if isinstance(action, Send)
    )
    for name in ("Call-ID", "From", "To"):
        assert header(second.data, name) == header(first.data, name)
    assert (header(first.data, "CSeq"), header(second.data, "CSeq")) == ("1 MESSAGE", "2 MESSAGE")
    assert header(second.data, "Via") != header(first.data, "Via")
    assert "qop=auth-int, nc=00000001" in header(second.data, "Authorization")


def test_agent_leaves_a_server_that_never_has_enough() -> None:
    agent = UserAgent(account=BOBS_ACCOUNT, now=Moment(0, EPOCH_MS))
    _, actions = agent.message(
        udp(BOB), from_uri="sip:bob@example.com", to_uri="sip:a@b", body=b"x", now=Moment(0, EPOCH_MS)
    )
    told: list[Answered] = []
    for number in range(50):
        sends = [action for action in actions if isinstance(action, Send)]
        told += [action for action in actions if isinstance(action, Answered)]
        if not sends:
            break
        line = f'WWW-Authenticate: Digest realm="r{number}", nonce="n{number}", stale=true\r\nContent-Length'
        asked = phones_answer(sends[0].data, "401 No").replace(b"Content-Length", line.encode())
        actions = agent.receive_datagram(asked, udp(BOB), Moment(0, EPOCH_MS))
    assert [answer.status for answer in told] == [401]


def test_agent_passes_over_a_challenge_that_it_cannot_read() -> None:
    agent = UserAgent(account=BOBS_ACCOUNT, now=Moment(0, EPOCH_MS))
    _, (first,) = agent.message(
        udp(BOB), from_uri="sip:bob@example.com", to_uri="sip:a@b", body=b"x", now=Moment(0, EPOCH_MS)
    )
    assert isinstance(first, Send)
    asked = phones_answer(first.data, "401 No").replace(b"Content-Length", b"WWW-Authenticate: x y z\r\nContent-Length")
    (told,) = agent.receive_datagram(asked, udp(BOB), Moment(0, EPOCH_MS))
    assert isinstance(told, Answered)
    assert told.status == 401


def test_password_does_not_show() -> None:
    assert "secret" not in repr(BOBS_ACCOUNT)
    user = User.with_password(BOBS, "secret of bob")
    assert user.ha1 not in repr(user)
    assert user.ha1_sha256 not in repr(UserFound(1, user))
    assert user.algorithms == ("SHA-256", "SHA-512-256", "MD5")
    assert Algorithm.MD5.value not in User(owner=BOBS, ha1_sha256=user.ha1_sha256).algorithms
    assert ALICE != BOB
