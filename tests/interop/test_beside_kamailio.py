"""We beside Kamailio, by the routes of docs/kamailio.md: it stays what the phones talk to, and we store and deliver."""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.kamailio import Kamailio
from tests.interop.test_one_table import bodies_of, upgrade
from tests.ports import free_port
from tests.runners.peer import Peer
from tests.runners.service import Service
from tests.runners.tables import inbox, wait_until_empty

PAGE = (Path(__file__).parents[2] / "docs" / "kamailio.md").read_text()
STORE = """\
    if (m_store("$var(owner)")) {
        t_reply("202", "Accepted");
    } else {
        t_reply("503", "Not Stored");
    }
"""


@contextmanager
def beside(url: str, directory: Path) -> Generator[tuple[Kamailio, Service]]:
    """Start Kamailio with what the page says in place of its module msilo, and us at the address that it names."""
    upgrade(url)
    (block,) = re.findall(r"```text\n(.*?)```", PAGE.partition("\n## Without\n")[2].partition("\n## ")[0], re.DOTALL)
    port = free_port()
    store, dump = re.sub(r"\b5070\b", str(port), block).split("\n\n")
    changes = {
        'loadmodule "msilo.so"\n': "",
        'modparam("msilo"': '# modparam("msilo"',
        "m_dump();": dump,
        STORE: store,
    }
    with Kamailio(directory, storage=url, parameters={}, changes=changes) as kamailio:
        options = ["--role", "silo", "--listen", f"udp://127.0.0.1:{port}", "--domain", "example.com"]
        options += ["--set", f"outbound_proxy=sip:127.0.0.1:{kamailio.udp[1]}"]
        with Service(directory, *options, storage=url) as service:
            yield kamailio, service


def test_what_is_for_somebody_away_is_stored_here_and_delivered_at_his_register(
    kamailio_url: str, tmp_path: Path
) -> None:
    with (
        beside(kamailio_url, tmp_path) as (kamailio, _),
        Peer(kamailio.udp) as alice,
        Peer(kamailio.udp) as bob,
    ):
        for body in (b"one", b"two", b"three"):
            assert alice.exchange(alice.message("bob", body)).status == 202
        assert [row["body"] for row in inbox(kamailio_url, "bob")] == [b"one", b"two", b"three"]
        assert bob.exchange(bob.registration("bob")).status == 200
        taken = bob.take(3)
        assert bodies_of(taken) == [b"one", b"two", b"three"]
        # By way of Kamailio, to the contact that it knows.
        assert {len(message.headers("Via")) for message in taken} == {2}
        assert {message.request_uri for message in taken} == {f"sip:bob@127.0.0.1:{bob.address[1]};transport=udp"}
        wait_until_empty(kamailio_url, "bob")
        # Who is there gets it from Kamailio at once.
        alice.send(alice.message("bob", b"live"))
        assert bodies_of(bob.take(1)) == [b"live"]
        assert alice.response().status == 200
        assert inbox(kamailio_url, "bob") == []


def test_what_kamailio_cannot_deliver_is_not_handed_back(kamailio_url: str, tmp_path: Path) -> None:
    with (
        beside(kamailio_url, tmp_path) as (kamailio, service),
        Peer(kamailio.udp) as alice,
        Peer(kamailio.udp) as bob,
        Peer(service.udp) as other,
    ):
        assert alice.exchange(alice.message("bob", b"later")).status == 202
        # A REGISTER that Kamailio has not seen: it does not know where he is.
        assert other.exchange(other.registration("bob")).status == 200
        wait_for_attempts(kamailio_url, [(b"later", 1)])
        assert bob.exchange(bob.registration("bob")).status == 200
        assert bodies_of(bob.take(1)) == [b"later"]
        wait_until_empty(kamailio_url, "bob")


def wait_for_attempts(url: str, wanted: list[tuple[bytes, int]]) -> None:
    """Wait until these are Bob's rows: body and number of attempts that failed."""
    deadline = time.monotonic() + 10
    while (found := [(row["body"], row["attempts"]) for row in inbox(url, "bob")]) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
