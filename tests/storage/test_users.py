"""Those who can log in: in every store and in a file the same."""

import errno
import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import msgspec
import pytest

from msilo_core.actions import FindUser, UserFound
from msilo_core.errors import SchemaError, Unavailable
from msilo_core.uri import Aor
from msilo_core.users import User
from msilo_storage import UserFile, Users, create_schema, open_store
from tests.postgres import Console
from tests.storage.values import BOB, CAROL, EVERY_OCTET

ALICE_OF_IPV6 = Aor("alice", "[2001:db8::1]")


def with_password(owner: Aor, password: str) -> User:
    """What every store keeps of a user: a file has no place for ``ha1b``."""
    return msgspec.structs.replace(User.with_password(owner, password), ha1b="")


SECRET = with_password(BOB, "secret")


@pytest.fixture(params=["memory", "sqlite", "postgres", "file"])
async def users(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Users]:
    """A store without users, or the name of a file that is not there yet."""
    if request.param == "file":
        yield UserFile(tmp_path / "users")
        return
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'msilo.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        await create_schema(url)
    async with open_store(url) as store:
        yield store


async def found(users: Users, *owners: Aor) -> list[User | None]:
    answers = await users.find_users([FindUser(number, owner) for number, owner in enumerate(owners, 7)])
    assert [answer.token for answer in answers] == list(range(7, 7 + len(owners)))
    return [answer.user for answer in answers if isinstance(answer, UserFound)]


async def test_who_was_added_is_found_and_nobody_else(users: Users) -> None:
    assert await users.add_user(SECRET) is True
    # Names are compared octet by octet, and each domain has its own.
    others = (Aor("Bob", "example.com"), Aor("bob", "example.net"), Aor("bo", "example.com"), CAROL)
    assert await found(users, *others, BOB, BOB) == [None, None, None, None, SECRET, SECRET]


async def test_a_user_who_is_added_again_has_another_password(users: Users) -> None:
    await users.add_user(with_password(CAROL, "hers"))
    await users.add_user(SECRET)
    changed = with_password(BOB, "another")
    assert await users.add_user(changed) is False
    assert await found(users, BOB, CAROL) == [changed, with_password(CAROL, "hers")]
    only_md5 = User(owner=BOB, ha1=changed.ha1)
    assert await users.add_user(only_md5) is False
    assert await found(users, BOB) == [only_md5]


async def test_who_was_removed_is_gone(users: Users) -> None:
    await users.add_user(SECRET)
    await users.add_user(with_password(CAROL, "hers"))
    assert await users.remove_user(BOB) is True
    assert await users.remove_user(BOB) is False
    assert await found(users, BOB, CAROL) == [None, with_password(CAROL, "hers")]


async def test_pages_in_the_order_of_domain_and_name(users: Users) -> None:
    # Such as databases sort in many ways.
    names = ["Zoë", "a b", "a", "B", "b", "é", "~", "a-1", "a1", "жук"]
    owners = [Aor(name, domain) for name in names for domain in ("example.com", "example.net", "a.example.com")]
    for owner in (*owners, ALICE_OF_IPV6):
        await users.add_user(with_password(owner, "x"))
    expected = sorted((*owners, ALICE_OF_IPV6), key=lambda owner: (owner.domain, owner.username))
    listed: list[Aor] = []
    while page := await users.list_users(after=listed[-1] if listed else None, limit=7):
        assert len(page) <= 7
        listed += [user.owner for user in page]
    assert listed == expected
    assert [user.owner for user in await users.list_users()] == expected


async def test_a_user_of_any_name_within_the_limits(users: Users) -> None:
    owner = Aor("x" * 255, "y" * 255)
    await users.add_user(with_password(owner, EVERY_OCTET.decode("utf-8", "surrogateescape")))
    (user,) = await found(users, owner)
    assert user == with_password(owner, EVERY_OCTET.decode("utf-8", "surrogateescape"))


async def test_nobody_is_asked_for(users: Users) -> None:
    if not isinstance(users, UserFile):
        assert await users.find_users([]) == []


# -- Kamailio's table --------------------------------------------------------------------------------------------------

# As Kamailio's own scripts make it, each column of its text that we use.
_SUBSCRIBER: Final = """
    CREATE TABLE subscriber (
        id {number} PRIMARY KEY NOT NULL,
        username VARCHAR(64) DEFAULT '' NOT NULL,
        domain VARCHAR(64) DEFAULT '' NOT NULL,
        password VARCHAR(64) DEFAULT '' NOT NULL,
        ha1 VARCHAR(128) DEFAULT '' NOT NULL,
        ha1b VARCHAR(128) DEFAULT '' NOT NULL,
        CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
    )
"""
_ITS_COLUMNS: Final = "SELECT password, ha1, ha1b FROM subscriber ORDER BY username"


class Kamailio:
    """A program that works on the same tables; each statement is a transaction."""

    def __init__(self, url: str) -> None:
        self._url = url
        number = "SERIAL" if url.startswith("postgres") else "INTEGER"
        self(_SUBSCRIBER.format(number=number))

    def __call__(self, statement: str) -> list[tuple[object, ...]]:
        if self._url.startswith("postgres"):
            with Console(self._url) as console:
                return console.query(statement)
        with closing(sqlite3.connect(self._url.removeprefix("sqlite:///"))) as connection, connection:
            return connection.execute(statement).fetchall()


@pytest.fixture(params=["sqlite", "postgres"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'msilo.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


async def test_nothing_is_left_of_the_password_that_a_user_had(shared_url: str) -> None:
    kamailio = Kamailio(shared_url)
    kamailio(
        "INSERT INTO subscriber (username, domain, password, ha1, ha1b)"
        " VALUES ('bob', 'example.com', 'old', 'old', 'old'), ('carol', 'example.com', 'hers', 'hers', 'hers')"
    )
    await create_schema(shared_url)
    async with open_store(shared_url) as store:
        assert await store.add_user(User.with_password(BOB, "secret")) is False
        assert await found(store, BOB) == [User.with_password(BOB, "secret")]
    # MD5 of bob:example.com:secret and of bob@example.com:example.com:secret, as `openssl md5` computes them.
    ours = ("", "2664cba6663a734ef3a6fefc0c0d0821", "563dd2977d5c3d6b11c5582a9701f9b3")
    assert kamailio(_ITS_COLUMNS) == [ours, ("hers", "hers", "hers")]


async def test_a_password_that_another_program_gave_is_the_only_one(shared_url: str) -> None:
    kamailio = Kamailio(shared_url)
    await create_schema(shared_url)
    theirs = with_password(BOB, "another").ha1
    async with open_store(shared_url) as store:
        await store.add_user(User.with_password(BOB, "secret"))
        kamailio(f"UPDATE subscriber SET ha1 = '{theirs}', ha1b = '' WHERE username = 'bob'")
        assert await found(store, BOB) == [User(owner=BOB, ha1=theirs)]
        assert await store.list_users() == [User(owner=BOB, ha1=theirs)]
        # Ours again.
        await store.add_user(User.with_password(BOB, "third"))
        assert await found(store, BOB) == [User.with_password(BOB, "third")]


# -- The file ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


async def test_lines_of_htdigest_are_understood(path: Path) -> None:
    path.write_text(
        "# Who may log in\n\n"
        f"bob:example.com:{SECRET.ha1.upper()}\n"
        f"  bob:Example.com.:sha-256:{SECRET.ha1_sha256}\n"
        f"bob:example.com:SHA-512-256:{SECRET.ha1_sha512_256}\n"
        f"alice:[2001:DB8::0:1]:{SECRET.ha1}\n"
        f"carol:example.com:MD5:{SECRET.ha1}",
        "utf-8",
    )
    users = UserFile(path)
    users.load()
    only_md5 = [User(owner=owner, ha1=SECRET.ha1) for owner in (ALICE_OF_IPV6, CAROL)]
    assert await found(users, BOB, ALICE_OF_IPV6, CAROL) == [SECRET, *only_md5]


async def test_what_says_nothing_stays_and_rights_too(path: Path) -> None:
    path.write_text(f"# ours\n\ncarol:example.com:{SECRET.ha1}\nbob:example.com:{SECRET.ha1}\n")
    path.chmod(0o640)
    users = UserFile(path)
    assert await users.remove_user(BOB) is True
    assert path.read_text() == f"# ours\n\ncarol:example.com:{SECRET.ha1}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


async def test_a_new_file_is_for_nobody_else_to_read(path: Path) -> None:
    await UserFile(path).add_user(SECRET)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == (
        f"bob:example.com:SHA-256:{SECRET.ha1_sha256}\n"
        f"bob:example.com:SHA-512-256:{SECRET.ha1_sha512_256}\n"
        f"bob:example.com:MD5:{SECRET.ha1}\n"
    )


async def test_a_change_is_seen_and_a_mistake_locks_nobody_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    users = UserFile(path)
    await UserFile(path).add_user(SECRET)
    users.load()
    await UserFile(path).add_user(with_password(CAROL, "hers"))
    assert await found(users, BOB, CAROL) == [SECRET, with_password(CAROL, "hers")]
    path.write_text("bob\n")
    for _ in range(2):
        assert await found(users, BOB) == [SECRET]
    path.unlink()
    assert await found(users, BOB) == [SECRET]
    said = [record.getMessage() for record in caplog.records if "users stay" in record.getMessage()]
    assert len(said) == 2
    assert "line 1" in said[0]


@pytest.mark.parametrize(
    "line",
    [
        "bob", "bob:example.com", f"bob:example.com:{'0' * 31}", f"bob:example.com:{'g' * 32}",
        f":example.com:{'0' * 32}",
        f"bob::{'0' * 32}", f"bob:exa mple.com:{'0' * 32}", f"bob:example.com:SHA-256:{'0' * 32}",
        f"bob:example.com:MD4:{'0' * 32}", f"bob:example.com:{'0' * 32} x",
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_is_named(path: Path, line: str) -> None:
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(SchemaError, match=rf"{path}, line 2: .*: give NAME:REALM:HA1 or NAME:REALM:ALGORITHM:HA1$"):
        UserFile(path).load()


async def test_a_file_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="No such file"):
        UserFile(path).load()
    with pytest.raises(SchemaError, match="Is a directory"):
        UserFile(tmp_path).load()
    path.write_bytes(b"\xff")
    with pytest.raises(SchemaError, match="UTF-8"):
        UserFile(path).load()


@pytest.mark.parametrize("name", ["a:b", "#a", " a", "a\u2028b"])
async def test_a_name_that_cannot_stand_in_a_file(path: Path, name: str) -> None:
    owner = Aor(name, "example.com")
    with pytest.raises(SchemaError) as caught:
        await UserFile(path).add_user(with_password(owner, "x"))
    assert str(caught.value) == f"{owner}: such a name cannot stand in a file: use a storage URL"
    assert not path.exists()


@pytest.mark.parametrize("name", ["a\u200cb", "a b", "a#", "-", "%", "a\u2003"])
async def test_any_other_name_can(path: Path, name: str) -> None:
    user = with_password(Aor(name, "example.com"), "x")
    await UserFile(path).add_user(user)
    assert await found(UserFile(path), user.owner) == [user]


async def test_changes_at_the_same_time_are_all_made(path: Path) -> None:
    owners = [Aor(f"user{number}", "example.com") for number in range(20)]
    files = [UserFile(path), UserFile(path)]
    async with anyio.create_task_group() as tasks:
        for number, owner in enumerate(owners):
            tasks.start_soon(files[number % 2].add_user, with_password(owner, "x"))
    assert {user.owner for user in await files[0].list_users()} == set(owners)
    async with anyio.create_task_group() as tasks:
        for number, owner in enumerate(owners):
            tasks.start_soon(files[number % 2].remove_user, owner)
    assert await files[0].list_users() == []
    assert list(path.parent.iterdir()) == [path]


_ADD_SOME: Final = """
import sys, anyio
from msilo_core import Aor, User
from msilo_storage import UserFile
async def main():
    for number in range(30):
        await UserFile(sys.argv[1]).add_user(User.with_password(Aor(f"{sys.argv[2]}{number}", "example.com"), "x"))
input()
anyio.run(main)
"""


def test_two_programs_change_it_at_the_same_time(path: Path) -> None:
    programs = [
        subprocess.Popen([sys.executable, "-c", _ADD_SOME, path, name], stdin=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    for program in programs:
        assert program.stdin is not None
        with program.stdin:
            program.stdin.write("go\n")
    assert [program.wait(30) for program in programs] == [0, 0]
    names = [line.partition(":")[0] for line in path.read_text().splitlines() if ":MD5:" in line]
    assert sorted(names) == sorted(f"{name}{number}" for name in "ab" for number in range(30))


async def test_who_holds_it_too_long_is_not_waited_for(path: Path) -> None:
    await UserFile(path).add_user(SECRET)
    users = UserFile(path, busy_timeout_s=0.05)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=rf"^users file {path}: another program is changing it: try again$"):
            await users.add_user(with_password(CAROL, "hers"))
        # To look is no change.
        assert await found(users, BOB, CAROL) == [SECRET, None]
    assert await users.add_user(with_password(CAROL, "hers")) is True


async def test_a_link_to_the_file_stays_one(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to("elsewhere/real")
    assert await UserFile(path).add_user(SECRET) is True
    assert await UserFile(path).add_user(with_password(CAROL, "hers")) is True
    assert path.is_symlink()
    assert await found(UserFile(elsewhere / "real"), BOB) == [SECRET]
    assert list(elsewhere.iterdir()) == [elsewhere / "real"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
async def test_whose_file_it_is_stays_so(path: Path) -> None:
    await UserFile(path).add_user(SECRET)
    os.chown(path, 65534, 65533)
    path.chmod(0o640)
    await UserFile(path).add_user(with_password(CAROL, "hers"))
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65533, 0o640)


async def test_whoever_may_not_give_it_away_keeps_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    assert await UserFile(path).add_user(SECRET) is True
    assert await found(UserFile(path), BOB) == [SECRET]
