"""``msilo silo``: an operator looks at what is stored, requeues and purges, beside a server that runs."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.runners.peer import Peer, Received
from tests.runners.service import MSILO, Service, run_msilo
from tests.runners.tables import execute, inbox, init, wait_until_empty

BOB = "sip:bob@example.com"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store with its tables made and nothing in it."""
    url: str = (
        f"sqlite:///{tmp_path}/msilo.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )
    init(url)
    return url


@pytest.fixture(params=["asyncio", "trio"])
def service(request: pytest.FixtureRequest, storage: str, tmp_path: Path) -> Iterator[Service]:
    config = "[delivery]\nretry_look = 1\n"
    with Service(tmp_path, "--backend", str(request.param), storage=storage, config=config) as running:
        yield running
        assert "Traceback" not in running.log_text()


def silo(storage: str, *arguments: str) -> str:
    """Run a command that succeeds; return what it prints."""
    done = run_msilo("silo", *arguments, "--storage", storage)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def silo_json(storage: str, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in silo(storage, *arguments, "--json").splitlines()]


def complaint(storage: str, *arguments: str) -> tuple[str, str]:
    """Run a command that ends with a complaint; return what it prints and the complaint."""
    done = run_msilo("silo", *arguments, "--storage", storage)
    assert done.returncode == 2
    assert re.fullmatch("msilo: error: .*\n", done.stderr)
    return done.stdout, done.stderr.removeprefix("msilo: error: ").removesuffix("\n")


def insert(storage: str, *rows: Mapping[str, object]) -> None:
    """Put rows into the table; they are Bob's, an hour old, and expire in another."""
    now_s = int(time.time())
    for row in rows:
        plain = {
            "username": "bob", "domain": "example.com", "src_addr": "sip:alice@example.com",
            "dst_addr": BOB, "inc_time": now_s - 3600, "exp_time": now_s + 3600, "ctype": "text/plain", **row,
        }  # fmt: skip
        values = (f"'{value}'" if isinstance(value, str) else str(value) for value in plain.values())
        execute(storage, f"INSERT INTO silo ({', '.join(plain)}) VALUES ({', '.join(values)})")


def register(phone: Peer, user: str = "bob", *, expires_s: int = 3600) -> None:
    assert phone.exchange(phone.registration(user, expires_s=expires_s)).status == 200


def until_dead(storage: str) -> dict[str, Any]:
    """Wait until one message is set aside, a moment after its phone refused it; return how it is listed."""
    end_s = time.monotonic() + 10
    while not (rows := silo_json(storage, "list", "--dead")):
        assert time.monotonic() < end_s
    (row,) = rows
    return row


def test_what_a_phone_refused_is_seen_requeued_and_delivered(service: Service, storage: str) -> None:
    with Peer(service.udp) as alice, Peer(service.udp) as phone:
        request = alice.message("bob", b"Are you there?")
        assert alice.exchange(request).status == 202
        register(phone)
        phone.answer(phone.receive(), 403, "Not From \x9b31mYou")
        dead = until_dead(storage)
        number = str(dead["id"])
        assert (dead["status"], dead["reason"], dead["attempts"]) == (403, "Not From \x9b31mYou", 1)
        assert silo(storage, "list") == ""
        assert "  [403 Not From \\x9b31mYou]\n" in silo(storage, "list", "--dead")
        assert "\nstate: set aside with 403 Not From \\x9b31mYou\n" in silo(storage, "show", number)
        assert silo_json(storage, "stats")[0]["dead_by_status"] == {"403": 1}
        # To register again is not enough.
        register(phone)
        assert phone.hear(0.3) == []

        assert silo(storage, "requeue", number) == "1 requeued\n"
        assert silo(storage, "list", "--dead") == ""
        (waiting,) = silo_json(storage, "list")
        assert (waiting["status"], waiting["attempts"]) == (0, 0)
        (shown,) = silo_json(storage, "show", number)
        assert (shown["last_status"], shown["body"]) == (403, "Are you there?")
        register(phone)
        (delivered,) = phone.take(1)
        assert delivered.body == b"Are you there?"
        assert delivered.header("Call-ID") == Received(request).header("Call-ID")
        wait_until_empty(storage, "bob")
    assert complaint(storage, "show", number)[1].startswith(f"there is no message {number}: ")


def test_who_is_registered_gets_what_is_requeued_without_another_register(service: Service, storage: str) -> None:
    with Peer(service.udp) as alice, Peer(service.udp) as phone:
        assert alice.exchange(alice.message("bob", b"Are you there?")).status == 202
        register(phone)
        phone.answer(phone.receive(), 403)
        until_dead(storage)
        assert silo(storage, "requeue", "--owner", BOB) == "1 requeued\n"
        (delivered,) = phone.take(1, timeout_s=15)
        assert delivered.body == b"Are you there?"
        wait_until_empty(storage, "bob")


class TestList:
    def test_what_waits_by_owner_without_bodies(self, storage: str) -> None:
        insert(
            storage,
            {"src_addr": "sip:al\x1b]0;title\x07ice@example.com", "attempts": 2, "reason": "Busy \x9bHere"},
            {"username": "carol", "ctype": "", "snd_time": 1_900_000_000},
        )
        insert(storage, {"status": 488, "reason": "Not Acceptable Here"})
        first, second = silo(storage, "list").splitlines()
        assert re.fullmatch(
            rf" +1  {TIME}  sip:al\\x1b\]0;title\\x07ice@example\.com -> {BOB}  text/plain, 0 octets"
            r"  tried 2: Busy \\x9bHere",
            first,
        )
        assert re.fullmatch(
            rf" +2  {TIME}  sip:alice@example\.com -> sip:carol@example\.com  -, 0 octets"
            r"  deferred to 2030-03-17T17:46:40Z",
            second,
        )
        (kept,) = silo_json(storage, "list", "--owner", "sip:carol@example.com")
        assert (kept["id"], kept["owner"], kept["deferred_to"]) == (2, "sip:carol@example.com", "2030-03-17T17:46:40Z")
        assert "body" not in kept
        assert silo(storage, "list", "--owner", BOB, "--dead").endswith("  [488 Not Acceptable Here]\n")

    def test_in_parts(self, storage: str) -> None:
        insert(storage, *({"callid": str(n)} for n in range(5)))
        assert [row["id"] for row in silo_json(storage, "list", "--limit", "2")] == [1, 2]
        assert [row["id"] for row in silo_json(storage, "list", "--limit", "2", "--after", "3")] == [4, 5]
        assert silo(storage, "list", "--limit", "0") == ""


class TestShow:
    def test_everything_is_there(self, service: Service, storage: str) -> None:
        headers = (("Subject", "caf\udce9\x9b"), ("Content-Type", "text/x; charset=utf-8"), ("Priority", "urgent"))
        with Peer(service.udp) as alice:
            request = alice.message("bob", "Grüße\r\n\x1b[2J\n".encode(), headers=headers)
            assert alice.exchange(request).status == 202
        shown = silo(storage, "show", "1")
        sent = Received(request)
        lines = [
            "message: 1", "state: waits", f"owner: {BOB}", "from: sip:alice@example.com", f"to: {BOB}",
            "received: T", "expires: T", "attempts: 0", "next attempt: at the next REGISTER", "repeats: 0",
            f"Call-ID: {sent.header('Call-ID')}", "headers:", f"    From: {sent.header('From')}",
            f"    To: <{BOB}>", "    Content-Type: text/x; charset=utf-8", "    Subject: caf\\udce9\\x9b",
            "    Priority: urgent", f"body: {len(sent.body)} octets", "    Grüße", "    \\x1b[2J",
        ]  # fmt: skip
        assert re.sub(TIME, "T", shown).splitlines() == lines
        (fields,) = silo_json(storage, "show", "1")
        assert fields["body"] == "Grüße\r\n\x1b[2J\n"
        assert fields["headers"] == "Subject: caf�\x9b\r\nPriority: urgent\r\n"
        assert (fields["last_status"], fields["next_time"], fields["lease_node"]) == (0, None, "")

    def test_a_body_that_is_no_text(self, storage: str) -> None:
        octets = bytes(range(256)) + b"\xff"
        literal = f"x'{octets.hex()}'" if storage.startswith("sqlite") else rf"'\x{octets.hex()}'"
        insert(storage, {})
        execute(storage, f"UPDATE silo SET body = {literal}")
        lines = silo(storage, "show", "1").splitlines()
        assert lines[-18:-15] == [
            "body: 257 octets",
            "    00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f",
            "    10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f",
        ]
        assert lines[-1] == "    and 1 more: --json has all"
        assert "body_base64" in silo_json(storage, "show", "1")[0]

    def test_states(self, storage: str) -> None:
        soon_ms = 1000 * (int(time.time()) + 60)
        insert(
            storage,
            {"lease_node": "one", "lease_until": soon_ms, "attempts": 1, "last_status": 486, "reason": "Busy"},
            {"snd_time": 1_900_000_000, "next_time": 1_900_000_000},
            {"status": 1, "exp_time": 2**62},
            {"status": 200, "taken_by": "0123456789abcdef fedcba9876543210"},
        )
        first, second, third, taken = (silo(storage, "show", n) for n in "1234")
        assert "\nstate: delivered, kept for late devices; 2 need it no more\n" in taken
        assert "\nnext attempt: at the next REGISTER\n" in taken
        assert re.search(rf"\nstate: being delivered by one, until {TIME}\n", first)
        assert "\nlast answer: 486 Busy\n" in first
        assert "\nstate: deferred to 2030-03-17T17:46:40Z\n" in second
        assert "\nnext attempt: 2030-03-17T17:46:40Z\n" in second
        assert "\nstate: set aside with 1\n" in third
        assert f"\nexpires: {2**62}\n" in third
        assert third.endswith("\nbody: 0 octets\n")
        assert "next attempt" not in third


class TestRequeue:
    def test_what_cannot_be_is_told_and_the_rest_is_done(self, storage: str) -> None:
        insert(storage, {"status": 403}, {}, {"status": 403, "exp_time": 1}, {"status": 403})
        said, why = complaint(storage, "requeue", "1", "2", "3", "98", "99")
        assert said == "1 requeued; 1 stay: expired\n"
        assert why == "there is no message 98, 99: see 'msilo silo list --dead'; not set aside: 2"
        assert [row["status"] for row in inbox(storage, "bob")] == [0, 0, 403, 403]

    def test_all_or_those_of_an_owner(self, storage: str) -> None:
        insert(storage, {"status": 403}, {"status": 488, "username": "carol"}, {"status": 403})
        assert silo_json(storage, "requeue", "--owner", BOB) == [{"requeued": 2, "expired": 0}]
        assert silo(storage, "requeue", "--all") == "1 requeued\n"
        assert silo(storage, "requeue", "--all") == "0 requeued\n"


class TestPurge:
    def test_what_was_named_goes_without_a_question(self, storage: str) -> None:
        soon_ms = 1000 * (int(time.time()) + 60)
        insert(storage, {"status": 403}, {}, {"lease_node": "one", "lease_until": soon_ms})
        said, why = complaint(storage, "purge", "1", "2", "3", "99")
        assert said == "1 purged\n"
        assert why == "there is no message 99: see 'msilo silo list --dead'; waiting, add --waiting: 2, 3"
        assert silo(storage, "purge", "2", "3", "--waiting") == "1 purged; 1 stay: being delivered\n"
        assert [row["id"] for row in inbox(storage, "bob")] == [3]

    def test_all_those_of_an_owner_or_the_old_ones(self, storage: str) -> None:
        insert(
            storage,
            {"status": 403},
            {"status": 403, "inc_time": int(time.time()) - 60},
            {"status": 403, "username": "carol"},
            {},
        )
        assert silo(storage, "purge", "--older-than", "2h", "--yes") == "0 purged\n"
        assert silo(storage, "purge", "--older-than", "30m", "--owner", BOB, "--yes") == "1 purged\n"
        assert silo(storage, "purge", "--owner", BOB, "--yes") == "1 purged\n"
        assert silo_json(storage, "purge", "--all", "--yes") == [{"purged": 1, "being_delivered": 0}]
        assert silo(storage, "purge", "--older-than", "999999999w", "--waiting", "--yes") == "0 purged\n"
        assert silo(storage, "purge", "--all", "--waiting", "--yes") == "1 purged\n"

    @pytest.mark.parametrize(("answer", "status", "left"), [("y", 0, 0), ("n", 130, 1), ("", 130, 1)])
    def test_on_a_terminal_it_asks(self, tmp_path: Path, answer: str, status: int, left: int) -> None:
        url = f"sqlite:///{tmp_path}/msilo.db"
        init(url)
        insert(url, {"status": 403})
        ours, theirs = os.openpty()
        arguments: list[str | Path] = [MSILO, "silo", "purge", "--owner", BOB, "--older-than", "0s", "--storage", url]
        with os.fdopen(ours, "r+b", 0) as terminal:
            with subprocess.Popen(arguments, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as process:
                os.close(theirs)
                terminal.write(f"{answer}\n".encode())
                process.communicate(timeout=30)
                assert process.returncode == status
            asked = terminal.read(65_536).decode()
        assert re.search(f"Delete all that was set aside of {BOB} and arrived before {TIME}\\? \\[y/N\\]", asked)
        assert len(inbox(url, "bob")) == left


class TestStats:
    def test_in_words_and_for_programs(self, storage: str) -> None:
        two_days_ago_s = int(time.time()) - 2 * 86_400 - 60
        insert(storage, {"inc_time": two_days_ago_s}, {"username": "carol"}, {"snd_time": 1_900_000_000})
        insert(storage, {"status": 403}, {"status": 488}, {"status": 403})
        assert re.sub(TIME, "T", silo(storage, "stats")) == (
            "waiting: 3, 1 of them deferred\noldest: T, 2 days ago\nbeing delivered: 0\nset aside: 3\n"
            "    with 403: 2\n    with 488: 1\noctets of bodies: 0\nowners with the most:\n"
            f"    {BOB}: 5\n    sip:carol@example.com: 1\n"
        )
        (fields,) = silo_json(storage, "stats")
        assert fields.pop("oldest_age_s") >= 2 * 86_400
        assert re.fullmatch(TIME, fields.pop("oldest"))
        assert fields == {
            "waiting": 3, "deferred": 1, "being_delivered": 0, "kept_for_late_devices": 0, "dead": 3,
            "dead_by_status": {"403": 2, "488": 1}, "body_bytes": 0,
            "owners": [{"owner": BOB, "messages": 5}, {"owner": "sip:carol@example.com", "messages": 1}],
        }  # fmt: skip
        assert silo(storage, "stats", "--owner", "sip:dave@example.com") == (
            "waiting: 0, 0 of them deferred\nbeing delivered: 0\nset aside: 0\noctets of bodies: 0\n"
        )

    def test_what_is_kept_for_late_devices(self, storage: str) -> None:
        insert(storage, {"status": 200, "taken_by": "0123456789abcdef"}, {"status": 403})
        assert silo(storage, "stats") == (
            "waiting: 0, 0 of them deferred\nbeing delivered: 0\nkept for late devices: 1\nset aside: 1\n"
            f"    with 403: 1\noctets of bodies: 0\nowners with the most:\n    {BOB}: 2\n"
        )
        (fields,) = silo_json(storage, "stats")
        assert (fields["waiting"], fields["kept_for_late_devices"], fields["dead"]) == (0, 1, 1)
