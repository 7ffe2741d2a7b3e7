"""Users and passwords from outside: the command line, real servers, and peers that are not ours."""

import contextlib
import fcntl
import json
import os
import re
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from msilo_core import Aor, User
from msilo_storage import UserFile
from tests.runners.peer import Peer
from tests.runners.service import MSILO, Service, run_msilo
from tests.runners.tables import execute, init

_PROMPT = r"(?:Password|Repeat for confirmation): "

ALICE, BOB = "sip:alice@example.com", "sip:bob@example.com"
OURS = ("--domain", "example.com")


def user(command: str, *arguments: str, password: str | None = None) -> str:
    """Run `msilo user`; return what it says."""
    done = run_msilo("user", command, *arguments, stdin=f"{password}\n" if password is not None else None)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def add_both(*where: str) -> None:
    """Make alice and bob users."""
    assert user("add", ALICE, *where, password="secret of alice") == f"{ALICE}: added\n"
    assert user("add", "bob@example.com", *where, password="secret of bob") == f"{BOB}: added\n"


@pytest.fixture(params=["asyncio-sqlite", "trio-postgres", "trio-file"])
def setup(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An event loop, and where the users are."""
    backend, _, kind = str(request.param).partition("-")
    return backend, kind


@pytest.fixture
def storage(request: pytest.FixtureRequest, setup: tuple[str, str], tmp_path: Path) -> str:
    """The URL of a store with tables."""
    _, kind = setup
    url: str = request.getfixturevalue("postgres_url") if kind == "postgres" else f"sqlite:///{tmp_path}/msilo.db"
    init(url)
    return url


@pytest.fixture
def users(setup: tuple[str, str], storage: str, tmp_path: Path) -> tuple[str, tuple[str, str]]:
    """What `serve --users` and `msilo user` are told; alice and bob are users."""
    if setup[1] == "file":
        name = str(tmp_path / "users")
        where = ("--file", name)
    else:
        name, where = "store", ("--storage", storage)
    add_both(*where)
    return name, where


@pytest.fixture
def service(
    setup: tuple[str, str], users: tuple[str, tuple[str, str]], storage: str, tmp_path: Path
) -> Iterator[Service]:
    """A server that trusts nobody."""
    options = ("--backend", setup[0], *OURS, "--users", users[0])
    with Service(tmp_path, *options, storage=storage) as running:
        yield running
        assert running.stop() == 0
        log = running.log_text()
        assert "Traceback" not in log
        assert "secret" not in log


def send(service: Service, *options: str, sender: str = ALICE, transport: int = 0) -> subprocess.CompletedProcess[str]:
    return run_msilo("send", "--from", sender, "--to", BOB, "--server", service.uris[transport], *options, "Hello?")


def test_who_knows_the_password_sends_and_receives(service: Service) -> None:
    for transport in (0, 1):
        done = send(service, "--password", "secret of alice", transport=transport)
        assert (done.returncode, done.stdout) == (0, "SIP/2.0 202 Accepted\n")
    listened = run_msilo("listen", BOB, "--server", service.uris[0], "--password", "secret of bob", "--count", "2")
    assert (listened.returncode, listened.stdout) == (0, f"{ALICE}: Hello?\n" * 2)


def test_nobody_else_sends(service: Service) -> None:
    for options, sender, said in (
        ((), ALICE, "SIP/2.0 407 Proxy Authentication Required"),
        (("--password", "wrong"), ALICE, "SIP/2.0 407 Proxy Authentication Required"),
        (("--password", "secret of bob", "--username", "bob"), ALICE, "SIP/2.0 403 Not Your Address"),
        (("--password", "x"), "sip:carol@example.com", "SIP/2.0 407 Proxy Authentication Required"),
        (("--password", "x"), "sip:alice@example.net", "SIP/2.0 403 Not a User of Ours"),
    ):
        done = send(service, *options, sender=sender)
        assert (done.returncode, done.stdout, done.stderr) == (1, f"{said}\n", ""), (options, sender)


def test_nobody_else_opens_a_mailbox(service: Service) -> None:
    assert send(service, "--password", "secret of alice").returncode == 0
    for options in ((), ("--password", "wrong"), ("--password", "secret of alice", "--username", "alice")):
        listened = run_msilo("listen", BOB, "--server", service.uris[0], *options, "--count", "1")
        assert (listened.returncode, listened.stdout) == (1, "")
    assert "not registered: 403 Not Your Address" in listened.stderr
    with Peer(service.udp) as stranger:
        assert stranger.exchange(stranger.registration("bob")).status == 401


@pytest.mark.parametrize("setup", ["trio-file"], indirect=True)
def test_password_is_taken_from_the_environment(service: Service) -> None:
    done = subprocess.run(
        [MSILO, "send", "--from", ALICE, "--to", BOB, "--server", service.uris[0], "x"],
        env={"MSILO_PASSWORD": "secret of alice"}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "SIP/2.0 202 Accepted\n")


def test_a_change_is_good_at_once(service: Service, users: tuple[str, tuple[str, str]]) -> None:
    _, where = users
    assert user("add", ALICE, *where, password="another") == f"{ALICE}: changed\n"
    assert send(service, "--password", "secret of alice").stdout.startswith("SIP/2.0 407")
    assert send(service, "--password", "another").returncode == 0
    assert user("remove", ALICE, *where) == f"{ALICE}: removed\n"
    assert send(service, "--password", "another").stdout.startswith("SIP/2.0 407")
    gone = run_msilo("user", "remove", ALICE, *where)
    remedy = f"see 'msilo user list {' '.join(where)}'"
    assert (gone.returncode, gone.stderr) == (2, f"msilo: error: {ALICE} is not a user: {remedy}\n")


def test_list(users: tuple[str, tuple[str, str]]) -> None:
    _, where = users
    assert user("list", *where) == f"{ALICE}  SHA-256, SHA-512-256, MD5\n{BOB}  SHA-256, SHA-512-256, MD5\n"
    listed = [json.loads(line) for line in user("list", *where, "--json").splitlines()]
    assert listed == [{"user": uri, "algorithms": ["SHA-256", "SHA-512-256", "MD5"]} for uri in (ALICE, BOB)]


@pytest.mark.parametrize("setup", ["asyncio-sqlite", "trio-postgres"], indirect=True)
def test_row_that_kamailio_wrote_and_no_password_in_ours(storage: str, tmp_path: Path) -> None:
    known = User.with_password(Aor("alice", "example.com"), "secret of alice")
    execute(storage, f"INSERT INTO subscriber (username, domain, ha1) VALUES ('alice', 'example.com', '{known.ha1}')"
            " RETURNING id")  # fmt: skip
    assert user("list", "--storage", storage) == f"{ALICE}  MD5\n"
    user("add", BOB, "--storage", storage, password="secret of bob")
    (row,) = execute(storage, "SELECT * FROM subscriber WHERE username = 'bob'")
    assert (row["password"], "secret" in str(row)) == ("", False)
    config = '[auth]\nalgorithms = ["MD5"]\n'
    with Service(tmp_path, "--users", "store", *OURS, storage=storage, config=config) as service:
        assert send(service, "--password", "secret of alice").returncode == 0


@pytest.mark.parametrize("setup", ["asyncio-sqlite"], indirect=True)
def test_trusted_network_beside_users(users: tuple[str, tuple[str, str]], storage: str, tmp_path: Path) -> None:
    with Service(tmp_path, "--users", users[0], *OURS, "--trust", "127.0.0.0/8", storage=storage) as service:
        assert send(service).stdout == "SIP/2.0 202 Accepted\n"


@pytest.mark.parametrize("setup", ["asyncio-sqlite"], indirect=True)
def test_doors_may_stand_open_to_users(users: tuple[str, tuple[str, str]], storage: str, tmp_path: Path) -> None:
    with Service(tmp_path, "--users", users[0], *OURS, "--listen", "udp://0.0.0.0:0", storage=storage) as service:
        assert re.fullmatch(r"udp://0\.0\.0\.0:\d+", service.uris[0])


def typed(terminal: int, *answers: str) -> str:
    """Answer each prompt on a terminal; return all that was shown until the program ended."""
    shown, answered = "", 0
    with contextlib.suppress(OSError):  # what reading gives when nobody holds the other end any more
        while chunk := os.read(terminal, 1024):
            shown += chunk.decode()
            if answered < len(answers) and len(re.findall(_PROMPT, shown)) > answered:
                # Whatever was typed before the prompt would be thrown away.
                os.write(terminal, f"{answers[answered]}\n".encode())
                answered += 1
    return shown


@pytest.mark.parametrize(
    ("answers", "prompts"),
    [(("secret", "secret"), 2), (("secret", "other", "third", "third"), 4)],
    ids=["at once", "after a slip"],
)
def test_password_is_asked_for_on_a_terminal_and_not_shown(
    answers: tuple[str, ...], prompts: int, tmp_path: Path
) -> None:
    file = tmp_path / "users"
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [MSILO, "user", "add", BOB, "--file", file],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = typed(ours, *answers)
        assert process.stdout is not None
        assert process.stdout.read().decode() == f"{BOB}: added\n"
    os.close(ours)
    assert process.returncode == 0
    assert (len(re.findall(_PROMPT, shown)), "secret" in shown) == (prompts, False)
    users = UserFile(file)
    users.load()
    (known,) = anyio.run(users.list_users)
    assert known.ha1 == User.with_password(Aor("bob", "example.com"), answers[-1]).ha1
