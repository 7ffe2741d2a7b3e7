"""The promise seen from outside: a MESSAGE for someone away is kept, and delivered when they come back."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners.peer import Peer, Received, Transport, unique
from tests.runners.service import MSILO, Service, run_msilo
from tests.runners.tables import Row, inbox, init, wait_until_empty

BACKENDS = ("asyncio", "trio")

# Bodies that a careless hand spoils: beyond ASCII, no text at all, what looks like another message.
BODIES = (
    "Grüße, Bob – 你好 👋".encode(),
    bytes(range(256)) * 2,
    b"\x00\r\n\r\nMESSAGE sip:x SIP/2.0\r\n\t fold",
)
CONTENT_TYPES = (
    'text/plain; charset="utf-8"',
    "application/octet-stream",
    "text/x-note;format=flowed ; delsp=yes",
)

# What the two ends say to each other: headers known and unknown, with quoted strings and octets beyond ASCII.
END_TO_END = (
    ("Subject", "Lunch at 12; bring =?utf-8?q?caf=C3=A9?="),
    ("Priority", "urgent"),
    ("Content-Encoding", "identity"),
    ("Content-Disposition", "render;handling=optional"),
    ("Reply-To", '"Alice, at work" <sip:alice@example.com;x=y>'),
    ("In-Reply-To", "70710@saturn.example.com"),
    ("Date", "Sun, 22 Nov 2026 23:58:32 GMT"),
    ("P-Asserted-Identity", "<sip:alice@example.com>"),
    ("X-Unheard-Of", "ünïcödé \t and blanks"),
)


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store with its tables made and nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/msilo.db"
    url: str = request.getfixturevalue("postgres_url")
    init(url)
    return url


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of the event loop."""
    return str(request.param)


@pytest.fixture(params=["udp", "tcp"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """Of the sender and of the phone."""
    return "udp" if request.param == "udp" else "tcp"


@pytest.fixture(scope="module", params=BACKENDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server on SQLite that tests share; each has users of its own."""
    directory = tmp_path_factory.mktemp("server")
    with Service(directory, "--backend", str(request.param), storage=sqlite_in(directory)) as service:
        yield service
        assert "Traceback" not in service.log_text()


@pytest.fixture
def alice(server: Service) -> Iterator[Peer]:
    """A sender on UDP."""
    with Peer(server.udp) as peer:
        yield peer


@pytest.fixture
def phone(server: Service) -> Iterator[Peer]:
    """The recipient's phone on UDP, not registered yet."""
    with Peer(server.udp) as peer:
        yield peer


@pytest.fixture
def bob() -> str:
    """User part of a recipient whom nobody wrote to before."""
    return unique("bob")


def sqlite_in(directory: Path) -> str:
    """Return the storage URL of the database in a server's directory."""
    return f"sqlite:///{directory}/msilo.db"


def stored(server: Service, owner: str) -> list[Row]:
    """Return what lies in one inbox of the shared server, oldest first."""
    return inbox(sqlite_in(server.log.parent), owner)


def listed(storage: str) -> list[Row]:
    """Return what `msilo silo list` shows."""
    shown = run_msilo("silo", "list", "--storage", storage, "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    return [json.loads(line) for line in shown.stdout.splitlines()]


def register(phone: Peer, user: str, *, expires_s: int = 3600) -> None:
    """Register `user` at `phone` in a REGISTER of its own."""
    answer = phone.exchange(phone.registration(user, expires_s=expires_s))
    assert answer.status == 200, answer.raw


# -- Away, and back after a power failure --------------------------------------------------------------------


def test_messages_survive_a_power_failure(storage: str, backend: str, transport: Transport, tmp_path: Path) -> None:
    sent: list[Received] = []
    with Service(tmp_path, "--backend", backend, storage=storage) as service:
        with Peer(service.address(transport), transport) as alice:
            for number, (body, content_type) in enumerate(zip(BODIES, CONTENT_TYPES, strict=True), 1):
                message = alice.message(
                    "bob",
                    body,
                    headers=[("Content-Type", content_type), *END_TO_END],
                    cseq=number,
                    from_=f'"Alice \\"A.\\" Ängström" <sip:alice@example.com;x=1>;tag={unique()};y=2',
                    to_="Bob B. <sip:bob@example.com>" if number == 2 else '"Bob" <sip:bob@example.com;z>',
                )
                assert alice.exchange(message).status == 202
                sent.append(Received(message))
        service.kill()

    assert [row["body"] for row in inbox(storage, "bob")] == list(BODIES)
    assert [one["call_id"] for one in listed(storage)] == [one.header("Call-ID") for one in sent]

    with Service(tmp_path, "--backend", backend, storage=storage) as service:
        with Peer(service.address(transport), transport) as phone:
            register(phone, "bob")
            delivered = phone.take(3)
            assert [one.body for one in delivered] == list(BODIES)
            for request, arrived in zip(sent, delivered, strict=True):
                assert arrived.request_uri == f"sip:bob@127.0.0.1:{phone.address[1]};transport={transport}"
                for name in ("From", "To", "Call-ID", "CSeq", "Content-Type", *dict(END_TO_END)):
                    assert arrived.header(name) == request.header(name)
            wait_until_empty(storage, "bob")
        assert service.stop() == 0
    assert listed(storage) == []
    assert "Traceback" not in service.log_text()


def test_each_device_gets_each_message_those_that_come_late_too(storage: str, backend: str, tmp_path: Path) -> None:
    config = '[delivery]\ndevices = "each"\n'
    bodies = [b"0", b"1", b"2"]
    with Service(tmp_path, "--backend", backend, storage=storage, config=config) as service:
        with Peer(service.udp) as alice, Peer(service.udp) as phone, Peer(service.tcp, "tcp") as tablet:
            register(phone, "bob")
            register(tablet, "bob")
            for body in bodies:
                assert alice.exchange(alice.message("bob", body)).status == 202
            on_phone, on_tablet = phone.take(3), tablet.take(3)
            assert [one.body for one in on_phone] == [one.body for one in on_tablet] == bodies
            register(phone, "bob")
            assert phone.hear(0.5) == []
        service.kill()
    with Service(tmp_path, "--backend", backend, storage=storage, config=config) as service:
        with Peer(service.udp) as laptop:
            register(laptop, "bob")
            late = laptop.take(3)
            assert [one.body for one in late] == bodies
            assert [one.header("Call-ID") for one in late] == [one.header("Call-ID") for one in on_phone]
            register(laptop, "bob")
            assert laptop.hear(0.5) == []
        assert service.stop() == 0
    shown = run_msilo("silo", "stats", "--storage", storage)
    assert "waiting: 0," in shown.stdout
    assert "\nkept for late devices: 3\n" in shown.stdout
    assert "Traceback" not in service.log_text()


def test_an_operator_may_look_while_it_runs(tmp_path: Path) -> None:
    # Another process that opens and closes the file must not end the life of the log that the server writes.
    storage = sqlite_in(tmp_path)
    with Service(tmp_path, storage=storage) as service, Peer(service.udp) as alice:
        for number in range(3):
            assert alice.exchange(alice.message("bob", b"%d" % number)).status == 202
            assert len(listed(storage)) == number + 1
        service.kill()
    assert [row["body"] for row in inbox(storage, "bob")] == [b"0", b"1", b"2"]


def test_a_repeat_after_a_restart_is_the_same_message(tmp_path: Path) -> None:
    storage = sqlite_in(tmp_path)
    with Service(tmp_path, storage=storage) as service, Peer(service.udp) as alice:
        request = alice.message("bob")
        assert alice.exchange(request).status == 202
        service.kill()
    with Service(tmp_path, storage=storage) as service, Peer(service.udp) as alice:
        assert alice.exchange(request).status == 202
        assert len(inbox(storage, "bob")) == 1


def test_a_binding_survives_a_restart(tmp_path: Path) -> None:
    storage = sqlite_in(tmp_path)
    with Service(tmp_path, storage=storage) as service:
        udp = f"udp://127.0.0.1:{service.udp[1]}"
        with Peer(service.udp) as phone:
            register(phone, "bob")
            service.kill()
            with Service(tmp_path, "--listen", udp, storage=storage) as service, Peer(service.udp) as alice:
                alice.send(alice.message("bob"))
                phone.take(1)
                assert alice.response().status == 200


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_server_on_all_addresses_is_known_by_the_one_that_the_phone_sees(
    transport: Transport, tmp_path: Path
) -> None:
    listen = f"{transport}://0.0.0.0:0"
    trust = ("--trust", "127.0.0.1")
    with Service(tmp_path, "--listen", listen, *trust, storage=sqlite_in(tmp_path)) as service:
        ours = ("127.0.0.1", service.address(transport)[1])
        with Peer(ours, transport) as alice, Peer(ours, transport) as phone:
            assert alice.exchange(alice.message("bob", b"stored")).status == 202
            register(phone, "bob")
            (stored_one,) = phone.take(1)
            wait_until_empty(sqlite_in(tmp_path), "bob")
            alice.send(alice.message("bob", b"live"))
            (live_one,) = phone.take(1)
            # A response goes to where Via says (RFC 3261 section 18.2.2); 0.0.0.0 is nowhere.
            for one in (stored_one, live_one):
                assert one.headers("Via")[0].startswith(f"SIP/2.0/{transport.upper()} 127.0.0.1:{ours[1]};")
            assert alice.response().status == 200


# -- Live ----------------------------------------------------------------------------------------------------


def test_a_live_message_and_its_answer_are_passed_on(server: Service, alice: Peer, phone: Peer, bob: str) -> None:
    register(phone, bob)
    request = Received(alice.message(bob, BODIES[1], headers=[("Content-Type", "image/png"), *END_TO_END]))
    alice.send(request.raw)
    message = phone.receive()
    phone.answer(message, 200, "On The Screen")
    answer = alice.response(request.branch)
    assert answer.lines[0] == "SIP/2.0 200 On The Screen"
    via = answer.header("Via")
    assert answer.branch == request.branch
    assert f";rport={alice.address[1]}" in via
    assert message.body == BODIES[1]
    assert message.header("Max-Forwards") == "69"
    for name in ("From", "To", "Call-ID", "CSeq", "Content-Type", *dict(END_TO_END)):
        assert message.header(name) == request.header(name)
    assert stored(server, bob) == []


@pytest.mark.parametrize("status", [408, 480, 486, 503])
def test_what_an_unavailable_phone_does_not_take_is_stored(
    server: Service, alice: Peer, phone: Peer, bob: str, status: int
) -> None:
    register(phone, bob)
    request = Received(alice.message(bob, b"later"))
    alice.send(request.raw)
    phone.answer(phone.receive(), status)
    assert alice.response(request.branch).status == 202
    assert [row["body"] for row in stored(server, bob)] == [b"later"]
    register(phone, bob)
    (again,) = phone.take(1)
    for name in ("From", "Call-ID", "CSeq"):
        assert again.header(name) == request.header(name)


@pytest.mark.parametrize("status", [404, 415, 603])
def test_what_a_phone_refuses_is_refused_to_the_sender(
    server: Service, alice: Peer, phone: Peer, bob: str, status: int
) -> None:
    register(phone, bob)
    request = Received(alice.message(bob))
    alice.send(request.raw)
    phone.answer(phone.receive(), status, "Not Now")
    assert alice.response(request.branch).lines[0] == f"SIP/2.0 {status} Not Now"
    assert stored(server, bob) == []


def test_a_silent_phone_gets_its_message_stored_and_may_still_take_it(
    server: Service, alice: Peer, phone: Peer, bob: str
) -> None:
    register(phone, bob)
    request = Received(alice.message(bob, b"anybody there"))
    alice.send(request.raw)
    message = phone.receive()
    assert alice.response(request.branch).status == 202
    assert [row["body"] for row in stored(server, bob)] == [b"anybody there"]
    # It wakes up: the message is on its screen now, and must not be shown a second time.
    phone.answer(message)
    wait_until_empty(sqlite_in(server.log.parent), bob)
    register(phone, bob)
    assert phone.hear(0.3) == []


def test_every_phone_of_the_owner_rings_and_the_sender_hears_once(
    server: Service, alice: Peer, phone: Peer, bob: str
) -> None:
    with Peer(server.udp) as tablet:
        register(phone, bob)
        register(tablet, bob)
        alice.send(alice.message(bob))
        first, second = phone.receive(), tablet.receive()
        phone.answer(first)
        tablet.answer(second)
        assert first.header("Call-ID") == second.header("Call-ID")
        assert [one.status for one in alice.hear(0.3)] == [200]
    assert stored(server, bob) == []


def test_a_phone_that_hung_up_is_away(server: Service, alice: Peer, bob: str) -> None:
    with Peer(server.tcp, "tcp") as gone:
        register(gone, bob)
    assert alice.exchange(alice.message(bob)).status == 202
    with Peer(server.tcp, "tcp") as phone:
        register(phone, bob)
        assert phone.take(1)[0].body == b"hello"


@pytest.mark.parametrize("contact", ["*", "own"])
def test_a_phone_that_unregistered_is_away(server: Service, alice: Peer, phone: Peer, bob: str, contact: str) -> None:
    register(phone, bob)
    if contact == "own":
        register(phone, bob, expires_s=0)
    else:
        request = phone.registration(bob, expires_s=0)
        line = next(line for line in Received(request).lines if line.startswith("Contact:"))
        assert phone.exchange(request.replace(line.encode(), b"Contact: *")).status == 200
    assert alice.exchange(alice.message(bob)).status == 202
    assert phone.hear(0.3) == []
    assert len(stored(server, bob)) == 1


# -- Once, in order, to the owner only -----------------------------------------------------------------------


def test_a_repeated_request_is_answered_alike_and_stored_once(server: Service, alice: Peer, bob: str) -> None:
    request = alice.message(bob)
    answers = {alice.exchange(request).raw for _ in range(3)}
    assert len(answers) == 1
    assert answers.pop().startswith(b"SIP/2.0 202 ")
    assert len(stored(server, bob)) == 1


def test_a_message_that_was_taken_is_not_sent_again(server: Service, alice: Peer, phone: Peer, bob: str) -> None:
    assert alice.exchange(alice.message(bob)).status == 202
    register(phone, bob)
    phone.take(1)
    wait_until_empty(sqlite_in(server.log.parent), bob)
    register(phone, bob)
    assert phone.hear(0.3) == []


def test_a_repeated_register_is_answered_alike_and_delivers_once(alice: Peer, phone: Peer, bob: str) -> None:
    assert alice.exchange(alice.message(bob)).status == 202
    request = phone.registration(bob)
    first = phone.exchange(request)
    assert first.status == 200
    assert phone.exchange(request).raw == first.raw
    phone.take(1)
    assert phone.hear(0.3) == []


def test_a_message_goes_to_the_owner_of_the_request_uri_only(
    server: Service, alice: Peer, phone: Peer, bob: str
) -> None:
    # Whoever sends can write anything into To: it must lead to nobody's phone.
    carol = unique("carol")
    request = alice.message(bob, to_=f"<sip:{carol}@127.0.0.1:{phone.address[1]}>")
    assert alice.exchange(request).status == 202
    register(phone, carol)
    assert phone.hear(0.3) == []
    assert stored(server, carol) == []
    with Peer(server.udp) as owner:
        register(owner, bob)
        assert owner.take(1)[0].header("To") == Received(request).header("To")


def test_one_is_outstanding_and_a_new_message_waits_behind_the_stored_ones(alice: Peer, phone: Peer, bob: str) -> None:
    for number in range(20):  # more than one page of the inbox
        assert alice.exchange(alice.message(bob, b"%d" % number)).status == 202
    register(phone, bob)
    first = phone.receive()
    # RFC 3428 section 8: until this one is answered nothing but its own repeat may come.
    assert {one.branch for one in phone.hear(1)} == {first.branch}
    assert alice.exchange(alice.message(bob, b"20")).status == 202
    phone.answer(first)
    assert [int(one.body) for one in [first, *phone.take(20)]] == list(range(21))
    assert phone.hear(0.3) == []


def test_a_wider_window_by_tcp(backend: str, tmp_path: Path) -> None:
    settings = tmp_path / "msilo.toml"
    settings.write_text("[delivery]\nwindow = 3\n")
    options = ("--config", str(settings), "--backend", backend)
    with (
        Service(tmp_path, *options, storage=sqlite_in(tmp_path)) as service,
        Peer(service.tcp, "tcp") as alice,
        Peer(service.tcp, "tcp") as phone,
    ):
        for number in range(5):
            assert alice.exchange(alice.message("bob", b"%d" % number)).status == 202
        register(phone, "bob")
        first, second, third = (phone.receive() for _ in range(3))
        assert phone.hear(0.3) == []
        phone.answer(second)
        assert [one.body for one in (first, second, third, phone.receive())] == [b"0", b"1", b"2", b"3"]


def test_an_expired_message_is_never_delivered(alice: Peer, phone: Peer, bob: str) -> None:
    plain, expires = ("Content-Type", "text/plain"), "Expires"
    assert alice.exchange(alice.message(bob, b"short", headers=[plain, (expires, "1")])).status == 202
    assert alice.exchange(alice.message(bob, b"now or never", headers=[plain, (expires, "0")])).status == 480
    assert alice.exchange(alice.message(bob, b"long", headers=[plain, (expires, "600")])).status == 202
    time.sleep(1.5)
    register(phone, bob)
    assert [one.body for one in phone.take(1)] == [b"long"]
    assert phone.hear(0.3) == []


# -- Other ways to run it ------------------------------------------------------------------------------------


def test_role_silo_stores_what_comes_and_dumps_on_register(backend: str, tmp_path: Path) -> None:
    storage = sqlite_in(tmp_path)
    with (
        Service(tmp_path, "--role", "silo", "--backend", backend, storage=storage) as service,
        Peer(service.udp) as proxy,
        Peer(service.udp) as phone,
    ):
        assert proxy.exchange(proxy.message("bob", b"1")).status == 202
        register(phone, "bob")
        assert phone.take(1)[0].body == b"1"
        wait_until_empty(storage, "bob")
        # The proxy sends what it could not deliver itself: a binding does not turn it into a relay.
        answer = proxy.exchange(proxy.message("bob", b"2"))
        assert answer.status == 202
        register(phone, "bob")
        assert phone.take(1)[0].body == b"2"


def test_sigterm_ends_it_at_once_when_nothing_is_under_way(backend: str, tmp_path: Path) -> None:
    with (
        Service(tmp_path, "--backend", backend, storage=sqlite_in(tmp_path)) as service,
        Peer(service.tcp, "tcp") as idle,
    ):
        assert idle.exchange(idle.message("bob")).status == 202
        began = time.monotonic()
        assert service.stop(within_s=5) == 0
        assert time.monotonic() - began < 3
    assert "Traceback" not in service.log_text()


def test_sigterm_waits_for_a_delivery_no_longer_than_the_grace(backend: str, tmp_path: Path) -> None:
    storage = sqlite_in(tmp_path)
    with (
        Service(tmp_path, "--backend", backend, "--grace", "1", storage=storage) as service,
        Peer(service.udp) as alice,
        Peer(service.udp) as phone,
    ):
        assert alice.exchange(alice.message("bob")).status == 202
        register(phone, "bob")
        phone.receive()  # and never an answer
        assert service.stop(within_s=5) == 0
    assert len(inbox(storage, "bob")) == 1
    assert "Traceback" not in service.log_text()


def test_send_and_listen(server: Service, bob: str) -> None:
    uri = f"sip:{bob}@example.com"
    host, port = server.udp
    at_server = ("--server", f"udp://{host}:{port}")
    for text in ("Are you there?", "Grüße"):
        sent = run_msilo("send", "--from", "sip:alice@example.com", "--to", uri, *at_server, text)
        assert (sent.returncode, sent.stderr) == (0, "")
        assert "202" in sent.stdout
    listened = run_msilo("listen", uri, *at_server, "--count", "2", "--json")
    assert listened.returncode == 0, listened.stderr
    messages = [json.loads(line) for line in listened.stdout.splitlines()]
    assert [message["body"] for message in messages] == ["Are you there?", "Grüße"]
    assert {message["from"] for message in messages} == {"sip:alice@example.com"}
    assert stored(server, bob) == []


def test_send_reads_its_text_from_standard_input(server: Service, phone: Peer, bob: str) -> None:
    host, port = server.udp
    register(phone, bob)
    with subprocess.Popen(
        [MSILO, "send", "--from", "sip:alice@example.com", "--to", f"sip:{bob}@example.com",
         "--server", f"udp://{host}:{port}", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as sender:  # fmt: skip
        assert sender.stdin is not None
        assert sender.stdout is not None
        sender.stdin.write("from a pipe ✉".encode())
        sender.stdin.close()
        assert phone.take(1)[0].body.rstrip(b"\n") == "from a pipe ✉".encode()
        assert b"200" in sender.stdout.read()
        assert sender.wait(10) == 0
