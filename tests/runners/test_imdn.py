"""IMDN (RFC 5438) seen from outside: a sender asks to be told, and is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners.peer import Peer, Received, unique
from tests.runners.service import Service
from tests.runners.tables import init, wait_until_empty

CPIM = """From: Alice <im:alice@example.com>
To: Bob <im:bob@example.com>
NS: imdn <urn:ietf:params:imdn>
imdn.Message-ID: {message_id}
DateTime: 2006-04-04T12:16:49-05:00
imdn.Disposition-Notification: processing, negative-delivery

Content-type: text/plain

Hello World"""


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store with its tables made and nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/msilo.db"
    url: str = request.getfixturevalue("postgres_url")
    init(url)
    return url


@pytest.fixture(params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest, storage: str, tmp_path: Path) -> Iterator[Service]:
    """A server that cleans every second."""
    often = ("--set", "check_time=1", "--set", "clean_period=1")
    with Service(tmp_path, "--backend", str(request.param), *often, storage=storage) as service:
        yield service
        assert "Traceback" not in service.log_text()


def asking(sender: Peer, message_id: str, *, expires_s: int = 600) -> bytes:
    """Return a MESSAGE from alice to bob that asks for IMDNs."""
    body = CPIM.format(message_id=message_id).replace("\n", "\r\n").encode()
    return sender.message("bob", body, headers=[("Content-Type", "message/cpim"), ("Expires", str(expires_s))])


def status_in(imdn: Received) -> tuple[str, str]:
    """Return the Message-ID that an IMDN is about, and its status."""
    assert imdn.header("Content-Type") == "message/cpim"
    assert b"\r\nContent-Disposition: notification\r\n" in imdn.body
    match = re.search(rb"<message-id>(.*?)</message-id>.*<status><(\w+)/></status>", imdn.body, re.DOTALL)
    assert match is not None, imdn.raw
    return match[1].decode(), match[2].decode()


def test_sender_is_told_that_it_is_stored_and_that_it_was_refused(server: Service, storage: str) -> None:
    with Peer(server.udp) as alice, Peer(server.udp, "udp") as phone:
        assert alice.exchange(alice.registration("alice")).status == 200
        message_id = unique()
        assert alice.exchange(asking(alice, message_id)).status == 202
        (stored,) = alice.take(1)
        assert status_in(stored) == (message_id, "stored")
        assert stored.header("To") == "<sip:alice@example.com>"
        assert phone.exchange(phone.registration("bob")).status == 200
        delivered = phone.receive()
        assert delivered.body == CPIM.format(message_id=message_id).replace("\n", "\r\n").encode()
        phone.answer(delivered, 403, "Forbidden")
        (failed,) = alice.take(1)
        assert status_in(failed) == (message_id, "failed")
        wait_until_empty(storage, "alice")
        assert alice.hear(0.3) == []


def test_sender_who_was_away_is_told_that_it_expired(server: Service, storage: str) -> None:
    with Peer(server.tcp, "tcp") as alice:
        message_id = unique()
        assert alice.exchange(asking(alice, message_id, expires_s=2)).status == 202
        assert status_in(alice.take(1)[0]) == (message_id, "stored")
    wait_until_empty(storage, "bob")
    with Peer(server.tcp, "tcp") as alice:
        assert alice.exchange(alice.registration("alice")).status == 200
        (failed,) = alice.take(1)
        assert status_in(failed) == (message_id, "failed")
        assert failed.request_uri.startswith("sip:alice@127.0.0.1")
        wait_until_empty(storage, "alice")
