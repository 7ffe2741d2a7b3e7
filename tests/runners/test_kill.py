"""Power failures at bad moments: what was acknowledged is there afterwards, in its order, and comes once."""

import random
from pathlib import Path

import pytest

from tests.runners.peer import Peer, Received
from tests.runners.service import Service
from tests.runners.tables import execute, inbox, init, wait_until_empty

# Requests under way at once: enough for a commit to cover many, few enough for any kernel's socket buffer.
_WINDOW = 64

_SENDERS = ("alice", "carol", "dave")


@pytest.fixture(params=["asyncio-sqlite", "trio-sqlite", "asyncio-postgresql", "trio-postgresql"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """(backend, URL of an empty store)."""
    backend, _, database = str(request.param).partition("-")
    if database == "sqlite":
        return backend, f"sqlite:///{tmp_path}/msilo.db"
    url: str = request.getfixturevalue("postgres_url")
    init(url)
    return backend, url


def test_all_that_was_acknowledged_under_load_is_delivered(setting: tuple[str, str], tmp_path: Path) -> None:
    backend, storage = setting
    # Somewhere in the stream, another place in each run.
    kill_after = random.SystemRandom().randrange(200, 600)
    print(f"killed after {kill_after} answers")
    with Service(tmp_path, "--backend", backend, storage=storage) as service:
        acknowledged = _load_until(service, kill_after)
    assert len(acknowledged) >= kill_after

    with Service(tmp_path, "--backend", backend, storage=storage) as service, Peer(service.udp) as phone:
        kept = [row["body"] for row in inbox(storage, "bob")]
        assert acknowledged <= set(kept), "acknowledged and lost"
        assert phone.exchange(phone.registration("bob")).status == 200
        delivered = [one.body for one in phone.take(len(kept))]
        assert phone.hear(0.3) == []
        assert delivered == kept, "not each once, in the order of the table"
        for sender in _SENDERS:
            numbers = [int(body.split()[1]) for body in delivered if body.split()[0] == sender.encode()]
            assert numbers == sorted(numbers), "out of the order in which they were sent"
        wait_until_empty(storage, "bob")
    assert "Traceback" not in service.log_text()


def test_killed_while_delivering(setting: tuple[str, str], tmp_path: Path) -> None:
    backend, storage = setting
    count, seen_before = 30, 10
    with (
        Service(tmp_path, "--backend", backend, storage=storage) as service,
        Peer(service.udp) as alice,
        Peer(service.udp) as phone,
    ):
        for number in range(count):
            assert alice.exchange(alice.message("bob", b"%d" % number)).status == 202
        assert phone.exchange(phone.registration("bob")).status == 200
        before = phone.take(seen_before)
        service.kill()
    # The dead node still holds its lease on the page that it was delivering; let that be over.
    execute(storage, "UPDATE silo SET lease_until = 0")

    with Service(tmp_path, "--backend", backend, storage=storage) as service, Peer(service.udp) as phone:
        left = len(inbox(storage, "bob"))
        assert count - seen_before <= left <= count, "deleted without the phone's answer, or all sent again"
        assert phone.exchange(phone.registration("bob")).status == 200
        after = phone.take(left)
        wait_until_empty(storage, "bob")
    assert [int(one.body) for one in after] == list(range(count - left, count))
    # What comes a second time bears what RFC 3261 section 8.2.2.2 has a phone recognise it by.
    assert len({_identity(one) for one in [*before, *after]}) == count


def _load_until(service: Service, kill_after: int) -> set[bytes]:
    """Keep a window of MESSAGEs under way until the server is killed; return the acknowledged bodies."""
    with Peer(service.udp) as peer:
        under_way: dict[str, bytes] = {}
        acknowledged: set[bytes] = set()
        number = 0
        while len(acknowledged) < kill_after:
            while len(under_way) < _WINDOW:
                sender = _SENDERS[number % len(_SENDERS)]
                body = f"{sender} {number}".encode()
                request = peer.message("bob", body, sender=sender)
                under_way[Received(request).branch] = body
                peer.send(request)
                number += 1
            answer = peer.response()
            assert answer.status == 202, answer.raw
            acknowledged.add(under_way.pop(answer.branch))
        service.kill()
        # What it had said before it died counts as well.
        return acknowledged | {under_way[one.branch] for one in peer.hear(0.2) if one.status == 202}


def _identity(message: Received) -> tuple[str, str, str]:
    """Return what tells a repeat from a new message."""
    return message.header("Call-ID"), message.header("CSeq"), message.header("From").partition(";tag=")[2]
