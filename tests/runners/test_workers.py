"""`msilo serve --workers N`: real processes on one port and one store."""

import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.runners.peer import Peer, Received
from tests.runners.service import MSILO, run_msilo
from tests.runners.tables import inbox, setting_of, wait_until_empty
from tests.runners.team import Team, is_running, sender_of, until

Start = Callable[..., Team]

# Below the 5 s between two looks for what is due, and the 6 s for which a live message waits for an answer.
AT_ONCE_S = 4.0

# Somewhat more than T1, after which a request is sent again that was not answered.
REPEAT_S = 0.7


@pytest.fixture(params=["asyncio-sqlite", "trio-postgresql"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """(backend, URL of an empty store)."""
    return setting_of(str(request.param), request, tmp_path)


@pytest.fixture(scope="module", params=["asyncio-any", "trio-each"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Team]:
    """A team that none of its tests harms."""
    backend, _, devices = str(request.param).partition("-")
    directory = tmp_path_factory.mktemp(request.param)
    # Where each device is to have a message, each is stored and then delivered.
    config = f"[delivery]\ndevices = '{devices}'\n[limits]\nsender_rate = 1\nsender_burst = 5\n"
    storage = f"sqlite:///{directory}/msilo.db"
    with Team(directory, "--backend", backend, storage=storage, config=config) as team:
        yield team


def is_stored_first(team: Team) -> bool:
    return "each" in team.storage


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start]:
    """What starts a team, and kills it at the end of the test."""
    with ExitStack() as stack:

        def start_one(*options: str, storage: str = f"sqlite:///{tmp_path}/msilo.db", config: str = "") -> Team:
            return stack.enter_context(Team(tmp_path, *options, storage=storage, config=config))

        yield start_one


def is_silent(phone: Peer) -> bool:
    """Say whether nothing comes to a phone for so long that whatever it has not answered would come again."""
    return not select.select([phone], [], [], REPEAT_S)[0]


class TestTogether:
    def test_what_several_store_is_delivered_once_and_in_order(self, setting: tuple[str, str], start: Start) -> None:
        backend, storage = setting
        team = start("--backend", backend, storage=storage)
        bodies: list[bytes] = []
        workers: set[int] = set()
        with ExitStack() as stack:
            senders = [stack.enter_context(Peer(team.udp)) for _ in range(12)]
            for turn in range(3):
                for number, sender in enumerate(senders):
                    body = b"%d from %d" % (turn, number)
                    assert sender.exchange(sender.message("bob", body)).status == 202
                    bodies.append(body)
            workers = {team.worker_of(sender) for sender in senders}
            bob = stack.enter_context(Peer(team.udp))
            assert bob.exchange(bob.registration("bob")).status == 200
            taken = bob.take(len(bodies))
            wait_until_empty(storage, "bob")
            assert bob.hear(0.2) == []
        assert workers == {0, 1}
        assert [request.body for request in taken] == bodies
        assert len({sender_of(request) for request in taken}) == 1, "one leases the inbox"

    def test_a_response_that_comes_to_another_ends_the_transaction(self, together: Team) -> None:
        with together.peer_at(0) as phone, together.peer_at(1) as alice:
            owner = f"at{phone.address[1]}"
            request = alice.message(owner, sender=owner)
            alice.send(request)
            sent = phone.receive()
            assert sender_of(sent) == 1
            # From the phone's own socket, which leads to worker 0.
            phone.answer(sent)
            assert alice.response(Received(request).branch).status == (202 if is_stored_first(together) else 200)
            until(lambda: all(row["taken_by"] for row in inbox(together.storage, owner)))
            assert is_silent(phone), "sent again"

    def test_a_phone_on_a_connection_of_another_gets_it(self, together: Team) -> None:
        with together.peer_at(0, "tcp") as phone, together.peer_at(1) as alice:
            owner = f"at{phone.address[1]}"
            for body in (b"short", bytes(range(256)) * 200):
                request = alice.message(owner, body, sender=owner)
                alice.send(request)
                sent = phone.receive(AT_ONCE_S)
                assert (sender_of(sent), sent.body) == (1, body)
                phone.answer(sent)
                assert alice.response(Received(request).branch).status == (202 if is_stored_first(together) else 200)
                until(lambda: all(row["taken_by"] for row in inbox(together.storage, owner)))
            assert is_silent(phone), "sent again"

    def test_a_message_for_a_connection_that_ends_is_stored_and_waits(self, together: Team) -> None:
        with together.peer_at(1) as alice, together.peer_at(0) as again:
            with together.peer_at(0, "tcp") as phone:
                owner = f"at{phone.address[1]}"
                request = alice.message(owner, b"first", sender=owner)
                alice.send(request)
                phone.receive()
            # Told by worker 0 when it ended, and for the next one when it is asked.
            assert alice.response(Received(request).branch, AT_ONCE_S).status == 202
            assert alice.exchange(alice.message(owner, b"second", sender=owner), AT_ONCE_S).status == 202
            assert [bytes(row["body"]) for row in inbox(together.storage, owner)] == [b"first", b"second"]
            assert again.exchange(again.registration(owner)).status == 200
            assert [request.body for request in again.take(2)] == [b"first", b"second"]

    def test_each_has_limits_of_its_own(self, together: Team) -> None:
        with together.peer_at(0) as first, together.peer_at(1) as second:
            for peer in (first, second):
                statuses = [peer.exchange(peer.message("erin", sender="dave")).status for _ in range(10)]
                # 5 at once, and one for each second that it took.
                assert statuses[:5] == [202] * 5
                assert 503 in statuses

    def test_what_a_peer_writes_in_a_branch_names_no_path_and_breaks_nothing(self, together: Team) -> None:
        team = together
        pids = team.pids
        marks = [
            "0-", "1-", "2-", "999-", "1000-", "00-", "-1-", "99999999999999999999-", "../../etc/passwd-", "0-0-1-",
            "1-\0", "\r\n", "%s%s-", "٠-", "a-", "-", "", "0" * 4000 + "-", "1-" + "f" * 4000,
        ]  # fmt: skip
        with Peer(team.udp) as stranger, Peer(team.tcp, "tcp") as other:
            for mark in marks:
                for number in range(2):
                    stranger.send(_response(stranger, team, f"z9hG4bK{mark}{number:x}"))
            for number in range(1_000):
                # Each worker has some for the other, whichever this socket leads to.
                stranger.send(_response(stranger, team, f"z9hG4bK{number % 2}-0123456789abcdef1"))
            for mark in ("0-", "1-", "7-"):
                other.send(_response(other, team, f"z9hG4bK{mark}0123456789abcdef1"))
            for peer in (stranger, other):
                assert peer.exchange(peer.message("bob")).status == 202
        for worker in (0, 1):
            with team.peer_at(worker) as peer:
                assert peer.exchange(peer.message("bob")).status == 202
        assert team.pids == pids
        assert "bug" not in team.log_text()
        assert "Traceback" not in team.log_text()


class TestDeath:
    def test_one_that_is_killed_is_started_again_and_answers_what_came_meanwhile(
        self, setting: tuple[str, str], start: Start
    ) -> None:
        backend, storage = setting
        team = start("--backend", backend, storage=storage)
        with team.peer_at(1) as alice, team.peer_at(0) as carol:
            killed = team.kill_worker(1)
            # Once, and never again.
            alice.send(alice.message("bob", b"to nobody"))
            assert carol.exchange(carol.message("bob", b"to the other"), AT_ONCE_S).status == 202
            assert alice.response().status == 202
            assert killed not in team.pids
            assert team.worker_of(alice) == 1
            until(lambda: len(team.pids) == 2)
        assert [bytes(row["body"]) for row in inbox(storage, "bob")] == [b"to the other", b"to nobody"]
        (line,) = [line for line in team.log_text().splitlines() if "started again" in line]
        assert line.endswith("ERROR worker 1: killed by SIGKILL: it is started again in 0.5 s")

    def test_one_that_ends_by_itself_is_started_again(self, start: Start) -> None:
        team = start()
        pid = team.pid_of(0)
        os.kill(pid, signal.SIGTERM)
        until(lambda: len(team.pids) == 2 and pid not in team.pids)
        assert "worker 0: ended with status 0: it is started again in 0.5 s" in team.log_text()
        with team.peer_at(0) as peer:
            assert peer.exchange(peer.message("bob")).status == 202

    def test_one_that_leaves_a_process_behind_is_started_again(self, tmp_path: Path, start: Start) -> None:
        # Which a route has forked, so that it holds all that the worker had open.
        (tmp_path / "my_routes.py").write_text(
            "import os, time\n"
            "from msilo_core import ServerRoute as MyRoute\n"
            "if not os.path.exists('forked') and not os.fork():\n"
            "    open('forked', 'w').write(str(os.getpid()))\n"
            "    time.sleep(60)\n"
        )
        team = start("--route", "my_routes:MyRoute")
        until(lambda: (tmp_path / "forked").exists() and (tmp_path / "forked").read_text())
        try:
            os.kill(team.pid_of(0), signal.SIGKILL)
            until(lambda: "worker 0: killed by SIGKILL: it is started again" in team.log_text())
        finally:
            os.kill(int((tmp_path / "forked").read_text()), signal.SIGKILL)

    def test_one_that_dies_again_and_again_is_given_longer_and_longer_pauses(self, start: Start) -> None:
        team = start()
        for _ in range(3):
            until(lambda: len(team.pids) == 2)
            pid = team.kill_worker(0)
            until(lambda pid=pid: pid not in team.pids)  # type: ignore[misc]
        pauses = re.findall(r"worker 0: killed by SIGKILL: it is started again in ([0-9.]+) s", team.log_text())
        assert pauses == ["0.5", "1", "2"]

    def test_one_that_cannot_start_again_is_tried_on_and_the_others_serve(self, tmp_path: Path, start: Start) -> None:
        (tmp_path / "my_routes.py").write_text("from msilo_core import ServerRoute as MyRoute\n")
        team = start("--route", "my_routes:MyRoute")
        with team.peer_at(1) as alice:
            (tmp_path / "my_routes.py").rename(tmp_path / "gone.py")
            team.kill_worker(0)
            until(lambda: "worker 0: route 'my_routes:MyRoute': cannot import my_routes" in team.log_text())
            assert alice.exchange(alice.message("bob")).status == 202
            (tmp_path / "gone.py").rename(tmp_path / "my_routes.py")
            with team.peer_at(0) as carol:
                assert carol.exchange(carol.message("bob")).status == 202

    def test_a_phone_that_was_connected_to_it_gets_what_came_meanwhile(self, start: Start) -> None:
        team = start()
        with team.peer_at(1) as alice:
            with team.peer_at(0, "tcp") as phone:
                owner = f"at{phone.address[1]}"
                team.kill_worker(0)
                # Where it goes is known, and that the connection is gone when worker 0 is there again and says so.
                assert alice.exchange(alice.message(owner, b"meanwhile"), AT_ONCE_S).status == 202
                assert phone.wait_closed() == []
            with Peer(team.tcp, "tcp") as phone:
                assert phone.exchange(phone.registration(owner)).status == 200
                assert [request.body for request in phone.take(1)] == [b"meanwhile"]

    def test_what_was_on_its_way_by_its_connections_is_tried_again_when_the_phone_is_back(self, start: Start) -> None:
        team = start(config="[delivery]\ndevices = 'each'\n")
        with team.peer_at(1) as alice:
            with team.peer_at(0, "tcp") as phone:
                owner = f"at{phone.address[1]}"
                assert alice.exchange(alice.message(owner, b"once more")).status == 202
                assert sender_of(phone.receive(AT_ONCE_S)) == 1
                team.kill_worker(0)
            until(lambda: team.log_text().count("listening on") == 3)
            began = time.monotonic()
            with team.peer_at(1) as phone:
                assert phone.exchange(phone.registration(owner)).status == 200
                assert [request.body for request in phone.take(1)] == [b"once more"]
            # Worker 1 has not waited for an answer until nobody would send one any more (32 s, Timer F).
            assert time.monotonic() - began < 15

    def test_they_end_when_their_parent_is_killed(self, start: Start) -> None:
        team = start("--grace", "1")
        workers = team.pids
        assert len(workers) == 2
        team.kill()
        until(lambda: not any(map(is_running, workers)))
        # And the port is free.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(team.udp)


class TestEnd:
    @pytest.mark.parametrize(("number", "backend"), [(signal.SIGTERM, "asyncio"), (signal.SIGINT, "trio")])
    def test_all_finish_what_is_under_way(self, number: signal.Signals, backend: str, start: Start) -> None:
        team = start("--backend", backend)
        workers = team.pids
        with team.peer_at(0) as phone, team.peer_at(1) as alice:
            request = alice.message(f"at{phone.address[1]}")
            alice.send(request)
            relayed = phone.receive()
            os.kill(team.pid, number)
            time.sleep(0.2)
            phone.answer(relayed)
            assert alice.response(Received(request).branch).status == 200
        assert team.wait() == 0
        assert not any(map(is_running, workers))
        assert "Traceback" not in team.log_text()

    def test_of_a_terminal_it_is_heard_once(self, start: Start) -> None:
        # Ctrl-C goes to all processes of a terminal; the workers leave it to their parent.
        team = start()
        for pid in [*team.pids, team.pid]:
            os.kill(pid, signal.SIGINT)
        assert team.wait() == 0
        assert "started again" not in team.log_text()

    def test_a_second_signal_ends_all_at_once(self, start: Start) -> None:
        team = start("--grace", "60")
        workers = team.pids
        with team.peer_at(0) as phone, team.peer_at(1) as alice:
            alice.send(alice.message(f"at{phone.address[1]}"))
            phone.receive()
            os.kill(team.pid, signal.SIGTERM)
            time.sleep(0.3)
            assert any(map(is_running, workers))
            os.kill(team.pid, signal.SIGTERM)
            assert team.wait() == -signal.SIGTERM
        assert not any(map(is_running, workers))

    def test_one_that_does_not_end_is_killed(self, start: Start) -> None:
        team = start("--grace", "0")
        workers = team.pids
        os.kill(team.pid_of(0), signal.SIGSTOP)
        os.kill(team.pid, signal.SIGTERM)
        assert team.wait() == 0
        assert not any(map(is_running, workers))
        assert "workers that have not ended after 4 s are killed" in team.log_text()


class TestMistakes:
    def refused(self, *options: str) -> str:
        """Start it, and return the one line that it says."""
        done = run_msilo("serve", "--workers", "3", *options)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("msilo: error: ")
        return line.removeprefix("msilo: error: ")

    def test_memory(self) -> None:
        assert self.refused("--storage", "memory:") == (
            "--workers 3: each would have a memory: of its own: give --storage sqlite:///FILE or postgresql://…, "
            "or leave --workers out"
        )

    def test_an_address_that_another_team_has(self, start: Start, tmp_path: Path) -> None:
        # The system would let one user's processes share it, and give each what is for the other.
        uri = f"udp://127.0.0.1:{free_port()}"
        start("--listen", uri)
        said = self.refused("--listen", uri, "--storage", f"sqlite:///{tmp_path}/other.db")
        assert said == f"cannot listen on {uri}: Address already in use"

    def test_a_store_that_is_not_there(self) -> None:
        said = self.refused("--listen", "udp://127.0.0.1:0", "--storage", "sqlite:////no/x.db")
        assert re.search("/no does not exist", said)

    def test_a_route_that_is_none(self) -> None:
        assert self.refused("--listen", "udp://127.0.0.1:0", "--route", "nowhere:Route").startswith("route 'nowhere:")

    def test_doors_that_are_open(self) -> None:
        assert "can be reached by others" in self.refused("--listen", "udp://0.0.0.0:0")

    @pytest.mark.parametrize(
        ("module", "complaint"),
        [
            ("import os; os._exit(7)", "worker 0 ended with status 7 before it served"),
            # Of the others each says it at the same time.
            ("import sys; 1 / int(sys.argv[1] == '0')", "route 'my_routes:MyRoute': cannot import my_routes: Zero.*"),
        ],
    )
    def test_what_is_wrong_with_several_is_said_once(self, module: str, complaint: str, tmp_path: Path) -> None:
        (tmp_path / "my_routes.py").write_text(f"{module}\nfrom msilo_core import ServerRoute as MyRoute\n")
        options = ["--listen", "udp://127.0.0.1:0", "--route", "my_routes:MyRoute"]
        done = subprocess.run(
            [MSILO, "serve", "--workers", "5", *options],
            cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        lines = [line for line in done.stderr.splitlines() if not re.match("[-0-9: ,]+INFO worker 0: ", line)]
        assert len(lines) == 1
        assert re.fullmatch(f"msilo: error: {complaint}", lines[0])


def _response(peer: Peer, team: Team, branch: str) -> bytes:
    host, port = team.address(peer.transport)
    return (
        f"SIP/2.0 200 OK\r\nVia: SIP/2.0/{peer.transport.upper()} {host}:{port};branch={branch};rport\r\n"
        "From: <sip:a@example.com>;tag=a\r\nTo: <sip:b@example.com>;tag=b\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()
