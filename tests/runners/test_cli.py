"""The command ``msilo`` as an operator meets it: real processes, exit statuses, and what stands on which stream."""

import io
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from msilo_core.parameters import COLUMNS
from msilo_runners.cli import main
from msilo_storage.tables import DEFAULT_NAMES, OUR_COLUMNS, Sql, indexes_of
from tests.runners.service import MSILO, Service, run_msilo

ALICE = "sip:alice@example.com"
BOB = "sip:bob@example.com"

OURS = len(OUR_COLUMNS)
INDEXES = len(indexes_of("sqlite", Sql(DEFAULT_NAMES)))


REGISTER = (
    b"REGISTER sip:example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 127.0.0.1:5070;branch=z9hG4bK1;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b"From: <sip:bob@example.com>;tag=1\r\n"
    b"To: <sip:bob@example.com>\r\n"
    b"Call-ID: 1@example.com\r\n"
    b"CSeq: 1 REGISTER\r\n"
    b"Contact: <sip:bob@127.0.0.1:5070;transport=tcp>\r\n"
    b"Content-Length: 0\r\n\r\n"
)


@pytest.fixture
def service(tmp_path: Path) -> Generator[Service]:
    with Service(tmp_path, "--domain", "example.com", storage=f"sqlite:///{tmp_path}/msilo.db") as running:
        yield running


def send(server: str, text: str, *options: str, to: str = BOB, stdin: str | None = None) -> str:
    done = run_msilo("send", "--from", ALICE, "--to", to, "--server", server, *options, text, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextmanager
def started(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """A command that runs until the test ends it, or is over."""
    with subprocess.Popen([MSILO, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def serving(*options: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A server that a test ends itself; yields the process and its first line."""
    addresses = ("--listen", "udp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0")
    with started("serve", *addresses, *options) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used (utime and stime of proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(is_true: Callable[[], object], within_s: float = 10) -> None:
    end = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


class TestMistakes:
    @pytest.mark.parametrize(
        ("settings", "complaint"),
        [
            ('[storage]\nurl = "msilo.db"', "'msilo.db' is not a storage URL: give memory:, sqlite:///relative.db, .*"),
            ('[msilo]\ndb_table = "version"', "db_table = 'version' is another table: give another name"),
        ],
    )
    def test_config_check_says_what_serve_would_not_understand(
        self, settings: str, complaint: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "msilo.toml"
        path.write_text(settings)
        done = run_msilo("config", "check", str(path))
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(f"msilo: error: {path}: {complaint}\n", done.stderr)

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "no command was given: see 'msilo --help'"),
            (["silo"], "no command was given: see 'msilo silo --help'"),
            (["config"], "no command was given: see 'msilo config --help'"),
            (["config", "check", "none.toml"], "none.toml: No such file or directory"),
            (["config", "check", "."], r"\.: Is a directory"),
            (["config", "import-kamailio", "none.cfg"], r"none\.cfg: No such file or directory"),
            (["config", "import-kamailio", "."], r"\.: Is a directory"),
            (
                ["config", "import-kamailio", "none.cfg", "--define", "1"],
                "'1' defines nothing: give NAME or NAME=VALUE",
            ),
            (["serv"], r"No such command 'serv'\..*"),
            (["serve", "--lisen", "x"], r"No such option '--lisen'\..*"),
            (["serve", "--role", "proxy"], r"Invalid value for '--role': 'proxy' is not one of 'server', 'silo'\."),
            (["serve", "--backend", "curio"], r"Invalid value for '--backend': .*"),
            (["serve", "--workers", "0"], r"Invalid value for '--workers': 0 is not in the range 1<=x<=999\."),
            (["serve", "--grace", "soon"], r"Invalid value for '--grace': 'soon' is not a valid float\."),
            (["serve", "--grace", "-1"], r"a grace of -1\.0 is out of range: give seconds, 0 or more"),
            (["serve", "--listen", "tls://127.0.0.1:5061"], ".*: tls is not supported yet: give udp or tcp"),
            (["serve", "--listen", "ws://127.0.0.1"], ".*: ws is not supported yet: give udp or tcp"),
            (["serve", "--listen", "wss://127.0.0.1"], ".*: wss is not supported yet: give udp or tcp"),
            (
                ["serve", "--listen", "udp://0.0.0.0:0"],
                ".* can be reached by others, .* give --trust CIDR or --users store, .*",
            ),
            (["serve", "--listen", "udp://192.0.2.77:5060", "--trust", "10.0.0.0/8"], "cannot listen on .*"),
            (["serve", "--trust", "10.0.0.1/8"], "'10.0.0.1/8' is an address within a network: give 10.0.0.0/8"),
            (["serve", "--set", "send_time=-3"], "msilo.send_time = -3 is out of range: give 0 to 4294967295"),
            (["serve", "--set", "expire_tim=3"], r".* did you mean msilo\.expire_time\?"),
            (["serve", "--config", "/nowhere.toml"], "/nowhere.toml: No such file or directory"),
            (
                ["serve", "--listen", "udp://127.0.0.1:0", "--storage", "mysql://x"],
                "'mysql://x' is not a storage URL.*",
            ),
            (["serve", "--listen", "udp://127.0.0.1:0", "--storage", "sqlite:////no/x.db"], ".*/no does not exist.*"),
            (["send", "--to", BOB, "x"], r"Missing option '--from'\."),
            (
                ["serve", "--listen", "udp://127.0.0.1:0", "--storage", "postgresql://me:secret@127.0.0.1:1/msilo"],
                r"PostgreSQL: .* refused: is the server of postgresql://me:\*\*\*@127\.0\.0\.1:1/msilo up\?",
            ),
            (["send", "--from", "alice", "--to", BOB, "x"], "expected a SIP URI, found 'alice'"),
            (["send", "--from", ALICE, "--to", "tel:+1", "x"], ".*tel.*"),
            (["send", "--from", ALICE, "--to", BOB, "--server", "udp://no.invalid", "x"], "cannot reach udp://no.*"),
            (["send", "--from", ALICE, "--to", BOB, "--content-type", "a\r\nb: c", "x"], ".*"),
            (["send", "--from", ALICE, "--to", BOB, "--expires", "-1", "x"], "Invalid value for '--expires': .*"),
            (["listen", "bob@example.com"], "expected a SIP URI, found 'bob@example.com'"),
            (["listen", "sip:example.com"], "expected a URI with a user part, found 'sip:example.com'"),
            (
                ["serve", "--listen", "udp://127.0.0.1:0", "--domain", "example.com", "--users", "nobody"],
                "users file nobody: No such file .*",
            ),
            (
                ["serve", "--listen", "udp://127.0.0.1:0", "--users", "store"],
                "users log in to the domain .*, and it is not said which are ours: give --domain NAME, or .*",
            ),
            (["serve", "--domain", "sip:example.com"], "'sip:example.com' is not a domain: give a host name .*"),
            (
                ["user", "add", "example.com"],
                "Invalid value for 'SIP-URI': 'example.com' is no address of record: give one .*",
            ),
            (["user", "add", BOB], "no password was given: type one, or give it in the first line of stdin"),
            (["user", "remove", BOB], "there is no msilo.db: run `msilo db init .*"),
            (["user", "remove", BOB, "--file", "none"], "users file none: No such file or directory"),
            (["user", "list", "--storage", "sqlite:///none.db"], "there is no none.db: run `msilo db init .*"),
            (["listen", BOB, "--count", "0"], "Invalid value for '--count': .*"),
            (["silo", "list", "--storage", "sqlite:///none.db"], "there is no none.db: run `msilo db init .*"),
            (["silo", "stats", "--storage", "sqlite:///none.db"], "there is no none.db: run `msilo db init .*"),
            (["silo", "requeue", "1", "--storage", "sqlite:///none.db"], "there is no none.db: run `msilo db init .*"),
            (
                ["silo", "list", "--owner", "bob"],
                "Invalid value for '--owner': 'bob' is no address of record: give one such as sip:bob@example.com",
            ),
            (["silo", "list", "--storage", "memory:"], "memory: is gone when its program ends: give the URL .*"),
            (["user", "list", "--storage", "memory:"], "memory: is gone when its program ends: give the URL .*"),
            (["silo", "show", "x"], r"Invalid value for 'ID': 'x' is not a valid integer range\."),
            (["silo", "show", "0"], r"Invalid value for 'ID': 0 is not in the range .*"),
            (["silo", "show", str(2**63)], r"Invalid value for 'ID': .* is not in the range .*"),
            (["silo", "show"], r"Missing argument 'ID'\."),
            (["silo", "requeue"], "which messages.* Give their numbers, or --owner, or --all"),
            (["silo", "requeue", "1", "--all"], "which messages.* Give their numbers, or --owner, or --all"),
            (["silo", "requeue", "--owner", BOB, "--all"], "which messages.* Give their numbers, or --owner, or --all"),
            (["silo", "purge"], "which messages.* Give their numbers, or --owner and --older-than, or --all"),
            (["silo", "purge", "1", "--owner", BOB], "which messages.* Give their numbers, .*"),
            (["silo", "purge", "--all", "--older-than", "7d"], "which messages.* Give their numbers, .*"),
            (["silo", "purge", "--older-than", "7"], ".*'7' is no duration: give a number with s, m, h, d or w, .*"),
            (
                ["silo", "purge", "--all"],
                "nobody can be asked whether to delete all that was set aside: add --yes",
            ),
            (
                ["silo", "purge", "--waiting", "--owner", BOB],
                f"nobody can be asked whether to delete all that was set aside or waits of {BOB}: add --yes",
            ),
            (["db", "check", "--storage", "sqlite:///none.db"], "there is no none.db: run `msilo db init .*"),
            (["db", "init", "--storage", "nothing"], "'nothing' is not a storage URL.*"),
            (["db", "upgrade", "--storage", "sqlite:///none.db"], "there is no none.db: run `msilo db init .*"),
            (
                ["db", "check", "--storage", "memory:"],
                "memory: is gone when its program ends: give the URL of a database",
            ),
            (["db", "check", "--config", "/nowhere.toml"], "/nowhere.toml: No such file or directory"),
            (
                ["serve", "--listen", "udp://127.0.0.1:0", "--set", "db_table=version"],
                "db_table = 'version' is another table: give another name",
            ),
        ],
    )
    def test_each_is_told_in_one_line(
        self,
        arguments: list[str],
        complaint: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["msilo", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        with pytest.raises(SystemExit) as ended:
            main()
        stdout, stderr = capsys.readouterr()
        assert re.fullmatch(f"msilo: error: {complaint}\n", stderr), stderr
        assert (ended.value.code, stdout) == (2, "")
        assert list(tmp_path.iterdir()) == [], "a mistake leaves nothing behind"

    def test_a_file_that_is_no_database_is_told_in_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear Bob, " * 1000)
        for command in (["silo", "list"], ["db", "check"], ["serve", "--listen", "udp://127.0.0.1:0"]):
            done = run_msilo(*command, "--storage", f"sqlite:///{path}")
            assert re.fullmatch("msilo: error: .*\n", done.stderr), done.stderr
            assert (done.returncode, done.stdout) == (2, "")

    @pytest.mark.parametrize(
        ("command", "complaint"),
        [
            ("--version >/dev/full", "No space left on device"),
            ("serve --listen udp://127.0.0.1:0 --storage memory: >/dev/full", "No space left on device"),
            (f"user add {BOB} <&-", "no password was given: .*"),
            ("silo purge --all <&-", "nobody can be asked .*"),
        ],
    )
    def test_what_it_was_started_with_is_full_or_closed(self, command: str, complaint: str, tmp_path: Path) -> None:
        done = subprocess.run(
            ["sh", "-c", f"{MSILO} {command}"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        *log, said = done.stderr.splitlines()
        assert re.fullmatch(f"msilo: error: {complaint}", said)
        assert all(" INFO " in line for line in log)
        assert (done.returncode, done.stdout) == (2, "")

    def test_no_socket_takes_the_place_of_what_is_closed(self) -> None:
        command = f"exec {MSILO} serve --listen udp://127.0.0.1:0 --storage memory: <&- 2>&-"
        with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready: ")
            assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (0, 2)} == {os.devnull}
            process.terminate()
            assert process.wait(timeout=30) == 0

    def test_a_port_that_is_taken_is_told_in_one_line(self, service: Service) -> None:
        done = run_msilo("serve", "--storage", "memory:", "--listen", service.uris[1])
        assert done.stderr == f"msilo: error: cannot listen on {service.uris[1]}: Address already in use\n"
        assert (done.returncode, done.stdout) == (2, "")


class TestHelp:
    def test_the_version(self) -> None:
        done = run_msilo("--version")
        assert re.fullmatch(r"msilo \d+\.\d+\.\d+\n", done.stdout)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        "command",
        [
            (),
            ("serve",),
            ("send",),
            ("listen",),
            ("silo", "list"),
            ("silo", "show"),
            ("silo", "requeue"),
            ("silo", "purge"),
            ("silo", "stats"),
            ("db", "init"),
            ("config", "check"),
            ("config", "import-kamailio"),
        ],
    )
    def test_every_command_explains_itself(self, command: tuple[str, ...]) -> None:
        done = run_msilo(*command, "--help")
        assert done.stdout.startswith(f"Usage: {' '.join(('msilo', *command))} ")
        assert (done.returncode, done.stderr) == (0, "")

    def test_no_database_driver_and_no_trio_is_loaded_before_it_is_needed(self) -> None:
        code = "import msilo_runners.cli, sys; print([m for m in ('asyncpg', 'trio', 'uvloop') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"


class TestServe:
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_is_ready_serves_and_ends(self, backend: str, number: signal.Signals) -> None:
        with serving("--backend", backend, "--storage", "memory:") as (process, ready):
            assert re.fullmatch(r"ready: udp://127\.0\.0\.1:\d+ tcp://127\.0\.0\.1:\d+\n", ready)
            uris = ready.removeprefix("ready: ").rstrip()
            for uri in uris.split():
                assert send(uri, "kept") == "SIP/2.0 202 Accepted\n"
            process.send_signal(number)
            rest, log = process.communicate(timeout=10)
            assert (process.returncode, rest) == (0, "")
        lines = [line.split(" ", 2)[2] for line in log.splitlines()]
        assert lines == [f"INFO listening on {uris}", "INFO ending"]

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_second_signal_ends_it_at_once(self, backend: str, number: signal.Signals, tmp_path: Path) -> None:
        path = tmp_path / "msilo.db"
        with (
            serving("--backend", backend, "--storage", f"sqlite:///{path}") as (process, ready),
            closing(sqlite3.connect(path, isolation_level=None)) as other,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as peer,
        ):
            # A request that cannot be finished, since somebody else writes.
            other.execute("BEGIN IMMEDIATE")
            host, port = ready.split()[-1].removeprefix("tcp://").split(":")
            peer.connect((host, int(port)))
            peer.sendall(REGISTER)
            time.sleep(0.3)
            process.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(number)
            assert process.wait(1) == -number

    def test_options_win_over_the_file(self, tmp_path: Path) -> None:
        config = (
            '[server]\nlisten = ["udp://127.0.0.1:1"]\nrole = "silo"\nbackend = "trio"\n'
            '[storage]\nurl = "memory:"\n[msilo]\nexpire_time = 1000\ncheck_time = 7\n'
        )
        url = f"sqlite:///{tmp_path}/other.db"
        with Service(tmp_path, "--set", "expire_time=50", storage=url, config=config) as service:
            send(service.uris[0], "kept")
            done = run_msilo("silo", "list", "--json", "--storage", url)
        kept = json.loads(done.stdout)
        received, expires = (time.strptime(kept[key], "%Y-%m-%dT%H:%M:%SZ") for key in ("received", "expires"))
        assert time.mktime(expires) - time.mktime(received) == 50

    def test_a_flood_of_garbage_leaves_no_line_in_the_log(self, service: Service) -> None:
        before = service.log_text()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(50):
                peer.sendto(os.urandom(200), service.udp)
        with socket.create_connection(service.tcp) as stream:
            stream.sendall(os.urandom(2000))
        assert send(service.uris[0], "secret text") == "SIP/2.0 202 Accepted\n"
        assert service.log_text() == before

    @pytest.mark.skipif(sys.platform != "linux", reason="limits of another process can only be set on Linux")
    def test_it_survives_a_shortage_of_file_descriptors(self, service: Service) -> None:
        send(service.uris[1], "before")
        limit = len(os.listdir(f"/proc/{service.pid}/fd")) + 5
        _, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (limit, hard))
        with ExitStack() as connections:
            for _ in range(20):
                connections.enter_context(socket.create_connection(service.tcp))
            until(lambda: "cannot accept on tcp" in service.log_text())
            # Datagrams are served meanwhile, and it does not spin.
            assert send(service.uris[0], "during") == "SIP/2.0 202 Accepted\n"
            before_s = cpu_s(service.pid)
            time.sleep(0.5)
            assert cpu_s(service.pid) - before_s < 0.25
        assert send(service.uris[1], "after") == "SIP/2.0 202 Accepted\n"
        assert service.log_text().count("cannot accept") == 1


class TestSendAndListen:
    @pytest.mark.parametrize("transport", [0, 1], ids=["udp", "tcp"])
    def test_what_is_sent_is_heard_in_order(self, transport: int, service: Service) -> None:
        server = service.uris[transport]
        assert send(server, "first") == "SIP/2.0 202 Accepted\n"
        send(server, "-", "--content-type", "text/x-steered", stdin="\x1b[31m two\nlines")
        heard = run_msilo("listen", BOB, "--server", server, "--count", "2")
        assert heard.returncode == 0
        assert heard.stdout == f"{ALICE}: first\n{ALICE}: \\x1b[31m two\\nlines\n"
        assert run_msilo("silo", "list", "--storage", f"sqlite:///{service.log.parent}/msilo.db").stdout == ""

    def test_json_lines_hold_everything(self, service: Service) -> None:
        server = service.uris[0]
        send(server, "grüße")
        with subprocess.Popen(
            [MSILO, "send", "--from", ALICE, "--to", BOB, "--server", server, "--content-type", "a/b", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as process:
            process.communicate(b"\xff\x00")
        heard = run_msilo("listen", BOB, "--server", server, "--count", "2", "--json")
        first, second = (json.loads(line) for line in heard.stdout.splitlines())
        dates = [first.pop("date"), second.pop("date")]
        assert all(re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date) for date in dates)
        parties = {"from": ALICE, "to": BOB}
        assert first == {**parties, "content_type": "text/plain;charset=UTF-8", "body": "grüße"}
        assert second == {**parties, "content_type": "a/b", "body_base64": "/wA="}

    def test_a_live_message_arrives_and_the_binding_ends_with_the_listener(self, service: Service) -> None:
        url = f"sqlite:///{service.log.parent}/msilo.db"
        with started("listen", BOB, "--server", service.uris[0]) as listener:
            assert listener.stdout is not None
            until(lambda: "\nbindings: 1\n" in run_msilo("db", "check", "--storage", url).stdout)
            assert send(service.uris[0], "live") == "SIP/2.0 200 OK\n"
            assert listener.stdout.readline() == f"{ALICE}: live\n"
            listener.terminate()
            assert listener.wait(10) == 0
        report = run_msilo("db", "check", "--storage", url)
        assert report.stdout.endswith("\nmessages: 0 wait, 0 of them deferred; 0 set aside\nbindings: 0\nusers: 0\n")

    def test_a_user_part_may_hold_escapes(self, service: Service) -> None:
        bob = "sip:bob%20the;builder@example.com"
        send(service.uris[0], "hello", to=bob)
        heard = run_msilo("listen", bob, "--server", service.uris[0], "--count", "1", "--json")
        assert json.loads(heard.stdout)["to"] == bob

    def test_an_answer_that_is_no_success_is_printed_and_the_status_is_1(self, service: Service) -> None:
        done = run_msilo("send", "--from", ALICE, "--to", "sip:bob@example.org", "--server", service.uris[0], "x")
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout == "SIP/2.0 404 Domain Not Served\n"

    def test_a_server_that_is_not_there_is_told_in_one_line(self) -> None:
        with socket.socket() as gone:
            gone.bind(("127.0.0.1", 0))
            server = f"tcp://127.0.0.1:{gone.getsockname()[1]}"
        done = run_msilo("send", "--from", ALICE, "--to", BOB, "--server", server, "x")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"msilo: {server}: the request could not be sent\n"

    def test_a_registration_that_is_refused_ends_the_listener(self, service: Service) -> None:
        done = run_msilo("listen", "sip:bob@example.org", "--server", service.uris[0])
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith("ERROR not registered: 404 Domain Not Served\n")


class TestDatabase:
    def test_init_makes_what_is_missing_and_leaves_what_is_there(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/new.db"
        for _ in range(2):
            done = run_msilo("db", "init", "--storage", url)
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{url}: ready\n", "")
        done = run_msilo("db", "check", "--storage", url)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.sub(r"SQLite [\d.]+", "SQLite 3", done.stdout) == (
            f"{url}: SQLite 3\ntable silo: version 8\ncolumns of Kamailio's: all 13\ncolumns of ours: all {OURS}\n"
            f"tables: all 4\nindexes: all {INDEXES}\nmessages: 0 wait, 0 of them deferred; 0 set aside\n"
            "bindings: 0\nusers: 0\n"
        )

    def test_what_is_missing_is_told_and_upgraded(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/old.db"
        run_msilo("db", "init", "--storage", url)
        with closing(sqlite3.connect(tmp_path / "old.db")) as other:
            other.executescript(
                "DROP INDEX silo_due_idx; ALTER TABLE silo DROP COLUMN reason; DROP TABLE silo_location"
            )
        done = run_msilo("db", "check", "--storage", url)
        lacks = f"{url} lacks table silo_location, column silo.reason: run `msilo db upgrade --storage {url}`"
        assert (done.returncode, done.stderr) == (2, f"msilo: error: {lacks}\n")
        assert done.stdout.splitlines()[1:] == [
            "table silo: version 8",
            "columns of Kamailio's: all 13",
            f"columns of ours: {OURS - 1} of {OURS}, without reason",
            "tables: 3 of 4, without silo_location",
            f"indexes: {INDEXES - 2} of {INDEXES}, without silo_due_idx, silo_location_expiry_idx",
        ]
        done = run_msilo("db", "upgrade", "--storage", url)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{url}: ready\n", "")
        assert run_msilo("db", "check", "--storage", url).returncode == 0

    def test_on_a_terminal_a_bar_shows_how_far_it_is(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/old.db"
        run_msilo("db", "init", "--storage", url)
        with closing(sqlite3.connect(tmp_path / "old.db")) as other:
            other.execute("DROP INDEX silo_due_idx")
        ours, theirs = os.openpty()
        with os.fdopen(ours, "rb", 0) as terminal:
            arguments: list[str | Path] = [MSILO, "db", "upgrade", "--storage", url]
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
                os.close(theirs)
                assert process.communicate(timeout=30)[0] == f"{url}: ready\n"
            assert b"100%" in terminal.read(65_536)

    def test_a_config_file_names_the_table_and_its_columns(self, tmp_path: Path) -> None:
        names = "\n".join(f'{name} = "their_{column}"' for name, column in COLUMNS.items())
        url = f"sqlite:///{tmp_path}/theirs.db"
        config = f'[storage]\nurl = "{url}"\n[msilo]\ndb_table = "messages"\n{names}\n'
        with Service(tmp_path, "--domain", "example.com", storage=url, config=config) as service:
            send(service.uris[0], "kept")
            options = ("--config", str(tmp_path / "msilo.toml"))
            assert "4 octets" in run_msilo("silo", "list", *options).stdout
            assert "\ntable messages: version 8\n" in run_msilo("db", "check", *options).stdout
            assert run_msilo("user", "list", *options).returncode == 0
        with closing(sqlite3.connect(tmp_path / "theirs.db")) as other:
            assert other.execute("SELECT their_username, their_body FROM messages").fetchall() == [("bob", b"kept")]
        done = run_msilo("silo", "list", "--storage", url)
        assert done.stderr == (
            f"msilo: error: {url} lacks table silo, table silo_location: run `msilo db init --storage {url}`\n"
        )

    def test_a_reader_that_has_seen_enough_is_no_error(self, service: Service) -> None:
        url = f"sqlite:///{service.log.parent}/msilo.db"
        send(service.uris[0], "x")
        with subprocess.Popen(
            [MSILO, "silo", "list", "--storage", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(10) == 1
