"""Kamailio and we on one table: what either stored the other delivers, and both at once."""

from collections.abc import Generator
from functools import partial
from pathlib import Path

import anyio
import pytest

from msilo_storage import upgrade_schema
from tests.interop.kamailio import Kamailio
from tests.runners.peer import Header, Peer, Received
from tests.runners.service import Service
from tests.runners.tables import inbox, wait_until_empty

TEXT: Header = ("Content-Type", "text/plain")
# What was delivered is deleted by a job, every so many seconds.
KAMAILIO = {"check_time": 1, "add_date": 0}


def upgrade(url: str) -> None:
    """Do what `msilo db upgrade` does."""
    anyio.run(partial(upgrade_schema, url))


@pytest.fixture
def table(kamailio_url: str) -> str:
    """The storage URL of Kamailio's table, upgraded."""
    upgrade(kamailio_url)
    return kamailio_url


@pytest.fixture
def kamailio(table: str, tmp_path: Path) -> Generator[Kamailio]:
    """Kamailio on that table."""
    with Kamailio(tmp_path, storage=table, parameters=KAMAILIO) as kamailio:
        yield kamailio


@pytest.fixture
def service(table: str, tmp_path: Path) -> Generator[Service]:
    """We on the same."""
    with Service(tmp_path, storage=table) as service:
        yield service


def store(server: Kamailio | Service, to: str, *bodies: bytes, headers: tuple[Header, ...] = (TEXT,)) -> None:
    """Have one body after the other stored for the user `to`."""
    with Peer(server.udp) as alice:
        for body in bodies:
            assert alice.exchange(alice.message(to, body, headers=headers)).status == 202


def fetch(server: Kamailio | Service, user: str, count: int) -> list[Received]:
    """Come in as `user` and take what waits; there must be so many, and not one more."""
    with Peer(server.udp) as phone:
        assert phone.exchange(phone.registration(user)).status == 200
        taken = phone.take(count)
        assert phone.hear(0.3) == []
        assert phone.exchange(phone.registration(user, expires_s=0)).status == 200
    return taken


def bodies_of(messages: list[Received]) -> list[bytes]:
    """Return their bodies, in order."""
    return [message.body for message in messages]


def test_kamailio_stores_before_the_upgrade_and_we_deliver(kamailio_url: str, tmp_path: Path) -> None:
    with Kamailio(tmp_path, storage=kamailio_url, parameters=KAMAILIO) as kamailio:
        headers = (
            TEXT,
            ("X-Note", "Grüße"),
            ("P-Asserted-Identity", "<sip:alice@example.com>"),
            ("Privacy", "none"),
        )
        store(kamailio, "bob", "Ça va?".encode(), b"nul \x00, and \xff, no UTF-8", headers=headers)
    before = inbox(kamailio_url, "bob")
    upgrade(kamailio_url)
    # Nothing of what it wrote is touched.
    assert [{name: row[name] for name in before[0]} for row in inbox(kamailio_url, "bob")] == before
    with Service(tmp_path, storage=kamailio_url) as service:
        first, second = fetch(service, "bob", 2)
        wait_until_empty(kamailio_url, "bob")
    assert (first.body, second.body) == ("Ça va?".encode(), b"nul \x00, and \xff, no UTF-8")
    assert first.header("Content-Type") == "text/plain"
    assert first.header("X-Note") == "Grüße"
    assert first.header("To") == "<sip:bob@example.com>"
    assert first.header("From").startswith("<sip:alice@example.com>;tag=")
    assert first.header("Date")


def test_kamailio_stores_on_the_upgraded_table_and_we_deliver(table: str, kamailio: Kamailio, service: Service) -> None:
    bodies = [b"%d" % number for number in range(30)]
    store(kamailio, "bob", *bodies)
    assert bodies_of(fetch(service, "bob", 30)) == bodies
    wait_until_empty(table, "bob")
    # Nor has it anything left to deliver.
    fetch(kamailio, "bob", 0)


def test_we_store_and_kamailio_delivers(table: str, kamailio: Kamailio, service: Service) -> None:
    bodies = ["Ça va?".encode(), b"nul \x00, and \xff, no UTF-8", b"x" * 5000]
    headers = (("Content-Type", "text/plain;charset=utf-8"), ("Subject", "lunch"), ("X-Note", "Grüße"))
    store(service, "bob", *bodies, headers=headers)
    taken = fetch(kamailio, "bob", 3)
    # All are under way at once there, in no certain order.
    assert sorted(bodies_of(taken)) == sorted(bodies)
    for message in taken:
        assert message.header("Content-Type") == "text/plain;charset=utf-8"
        assert message.header("Subject") == "lunch"
        assert message.header("X-Note") == "Grüße"
        assert message.header("To") == "<sip:bob@example.com>"
        assert message.header("From").startswith("<sip:alice@example.com>;tag=")
    wait_until_empty(table, "bob")
    fetch(service, "bob", 0)


def test_both_at_once_for_two_users(table: str, kamailio: Kamailio, service: Service) -> None:
    wanted: dict[str, list[bytes]] = {"bob": [], "carol": []}
    got: dict[str, list[bytes]] = {"bob": [], "carol": []}

    def send(*senders: tuple[Peer, str]) -> None:
        """Have both store at the same time, nobody waiting for an answer before the next."""
        requests: list[tuple[Peer, bytes]] = []
        for number in range(20):
            for peer, to in senders:
                wanted[to].append(b"%d of %d from %d" % (number, len(wanted[to]), peer.address[1]))
                requests.append((peer, peer.message(to, wanted[to][-1])))
        for peer, request in requests:
            peer.send(request)
        assert {peer.response(Received(request).branch).status for peer, request in requests} == {202}

    # Bob's phone is known to Kamailio alone, and Carol's to us.
    with Peer(kamailio.udp) as there, Peer(service.udp) as here, Peer(kamailio.udp) as bob, Peer(service.udp) as carol:
        phones = {"bob": bob, "carol": carol}
        send((there, "bob"), (here, "bob"), (there, "carol"), (here, "carol"))
        for user, phone in phones.items():
            phone.send(phone.registration(user))
        for number in range(40):
            if number == 10:
                # While both deliver, both store.
                send((there, "carol"), (here, "bob"))
            for user, phone in phones.items():
                got[user] += bodies_of(phone.take(1))
        for user, phone in phones.items():
            # What the other has stored since is found when a phone refreshes its registration.
            phone.send(phone.registration(user))
            got[user] += bodies_of(phone.take(20))
            wait_until_empty(table, user)
            assert [one.body for one in phone.hear(0.3) if one.method] == []
    assert {user: sorted(bodies) for user, bodies in got.items()} == {
        user: sorted(bodies) for user, bodies in wanted.items()
    }


def test_kamailio_goes_on_with_an_upgraded_table(kamailio_url: str, tmp_path: Path) -> None:
    with Kamailio(tmp_path, storage=kamailio_url, parameters=KAMAILIO) as kamailio:
        store(kamailio, "bob", b"before")
        upgrade(kamailio_url)
        # It need not be started again.
        store(kamailio, "bob", b"after")
        assert sorted(bodies_of(fetch(kamailio, "bob", 2))) == [b"after", b"before"]
        wait_until_empty(kamailio_url, "bob")
        store(kamailio, "bob", b"and after")
    with Kamailio(tmp_path, storage=kamailio_url, parameters=KAMAILIO) as kamailio:
        assert bodies_of(fetch(kamailio, "bob", 1)) == [b"and after"]
        wait_until_empty(kamailio_url, "bob")
