"""The same flow with Kamailio's msilo and with us: what either sends, header by header.

Both run with the same parameters: ours are imported from the kamailio.cfg of the other. The phones do the same with
both. Each test has a table with what is expected to differ, and why; what differs otherwise fails, and so does what no
longer differs.
"""

import re
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import pytest

from tests.interop.kamailio import Kamailio, Value, create_tables, require
from tests.postgres import schema_in
from tests.runners.peer import Address, Header, Peer, Received
from tests.runners.service import Service, run_msilo
from tests.runners.tables import init

T = TypeVar("T")

EXAMPLE = Path(__file__).parents[2] / "examples" / "deferred.py"
PLAIN: Header = ("Content-Type", "text/plain")

# How far a clock may be behind what it dated.
TOLERANCE = timedelta(seconds=30)
HTTP_DATE, CTIME, SEND_TIME = "%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y", "%Y%m%d%H%M%S"


# -- What is compared --------------------------------------------------------------------------------------------------


class Differs(NamedTuple):
    """How a header differs.

    Attributes:
        kamailio: its values in what Kamailio sent; none: it is not there.
        ours: in what we sent.
        reason: why that is so.
    """

    kamailio: tuple[str, ...]
    ours: tuple[str, ...]
    reason: str


Table: TypeAlias = Mapping[str, Differs]
"""By the name of a header, or ``Request-URI``, ``Status`` or ``body``."""

Seen: TypeAlias = Mapping[str, tuple[str, ...]]
"""A message, what is by chance in it replaced: by the name of a header, or as above, its values."""


def seen(message: Received, names: Mapping[str, str]) -> Seen:
    """Return a message as it is compared.

    Args:
        message: it; its Content-Length must be right.
        names: what stands for addresses, times and the like that no two runs have in common.
    """
    assert message.header("Content-Length") == str(len(message.body))
    first, *lines = message.lines
    found: dict[str, tuple[str, ...]] = {"body": (message.body.decode(),)}
    found["Status" if message.status else "Request-URI"] = (first.split(" ", 1)[1].removesuffix(" SIP/2.0"),)
    for name, _, value in (line.partition(":") for line in lines):
        if name != "Content-Length":
            found[name] = (*found.get(name, ()), value.strip())
    return {name: tuple(common(value, names) for value in values) for name, values in found.items()}


def common(value: str, names: Mapping[str, str]) -> str:
    """Return a value with names for what no two runs have in common."""
    for text, name in names.items():
        value = value.replace(text, name)
    value = re.sub(r"branch=z9hG4bK[^;]+", "branch=*", value)
    value = re.sub(r"rport=\d+", "rport=*", value)
    # Those that alice's phone gave begin with her name.
    value = re.sub(r";tag=(?!alice)[^;]+", ";tag=*", value)
    value = re.sub(r"^[0-9a-f]{16,}(?:-\d+@127\.0\.0\.1)?$", "*", value)
    value = re.sub(r"^kamailio \(.*\)$", "kamailio", value)
    value = re.sub(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", lambda match: now_or(match[0], HTTP_DATE), value)
    return re.sub(r"(?<=message - )\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}", lambda match: now_or(match[0], CTIME), value)


def now_or(text: str, form: str) -> str:
    """Return ``NOW`` for a time in UTC that has just passed, and any other as it is."""
    is_now = timedelta() <= datetime.now(UTC) - datetime.strptime(text, form).replace(tzinfo=UTC) < TOLERANCE
    return "NOW" if is_now else text


def differences(kamailio: Seen, ours: Seen) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return what differs: by the name of a header its values in either message."""
    return {
        name: (kamailio.get(name, ()), ours.get(name, ()))
        for name in sorted({*kamailio, *ours})
        if kamailio.get(name) != ours.get(name)
    }


def check(both: tuple[Seen, Seen], *expected: Table) -> None:
    """Check that two messages differ as the tables say, and in nothing else."""
    wanted = {name: differs for table in expected for name, differs in table.items()}
    assert all(differs.reason for differs in wanted.values())
    assert differences(*both) == {name: (wanted[name].kamailio, wanted[name].ours) for name in sorted(wanted)}


# -- What is expected to differ ----------------------------------------------------------------------------------------

ONE_VIA = "SIP/2.0/UDP SERVER;branch=*"
RPORT = "the answer is to come to the port that the request left from (RFC 3581 section 3)"

SENT: Table = {
    "User-Agent": Differs(("kamailio",), (), "a proxy adds nothing of its own, and Kamailio's says its release"),
}
"""In each request."""

DIRECT: Table = {
    **SENT,
    "Via": Differs((ONE_VIA, ONE_VIA), (f"{ONE_VIA};rport",), f"Kamailio is its own outbound_proxy; {RPORT}"),
    "Max-Forwards": Differs(("69",), ("70",), "Kamailio is its own outbound_proxy"),
}
"""In each request to a phone."""

BY_PROXY: Table = {
    **SENT,
    "Via": Differs((ONE_VIA,), (f"{ONE_VIA};rport",), RPORT),
    "Route": Differs(
        (), ("<sip:PROXY;lr>",), "a next hop that is not in the Request-URI stands in Route (section 8.1.2)"
    ),
}
"""In each request to a proxy."""

NEW: Table = {
    "CSeq": Differs(("10 MESSAGE",), ("1 MESSAGE",), "any number will do (RFC 3261 section 8.1.1.5)"),
}
"""In a request that is not the sender's."""


DATED: Table = {
    "Date": Differs((), ("NOW",), "a reminder has the headers of a stored message, for it is one"),
}
"""In a reminder."""


def stored(name: str, *, sender: str = '"Alice" <sip:alice@example.com>') -> Table:
    """Return what differs in a message that was stored: which, by its identity, and whose it is shown to be."""
    uri = f"<{sender.partition('<')[2]}"
    same = "one that comes twice can be told, by whoever gets it: what identifies it goes through as it came (P3)"
    return {
        "Call-ID": Differs(("*",), (f"alice-{name}",), same),
        "CSeq": Differs(("10 MESSAGE",), ("7 MESSAGE",), same),
        "From": Differs((f"{uri};tag=*",), (f"{sender};tag=alice-{name}",), f"{same}, and so does the display name"),
    }


def kept(**headers: str) -> Table:
    """Return what differs where headers of the sender are kept, which Kamailio interprets and then leaves out."""
    return {
        name.replace("_", "-"): Differs((), (value,), "every header between the two ends is kept (P7)")
        for name, value in headers.items()
    }


# -- Who is compared ---------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """Kamailio and we, each on a database of its own, with the same parameters.

    Attributes:
        kamailio: (host, port) of the one.
        ours: of the other.
        proxies: what stands for the outbound proxy of either, if they have one.
    """

    kamailio: Address
    ours: Address
    proxies: tuple[Peer, ...]

    def run(self, flow: Callable[[Address], T]) -> tuple[T, T]:
        """Have the same done with both, at the same time; return what came of it."""
        with ThreadPoolExecutor(2) as pool:
            kamailio, ours = pool.map(flow, (self.kamailio, self.ours))
        return kamailio, ours


@contextmanager
def pair(server: str, directory: Path, parameters: Mapping[str, Value], *, by_proxy: bool = False) -> Generator[Pair]:
    """Run both with these parameters of msilo, with databases on that server of PostgreSQL."""
    with ExitStack() as stack:
        theirs, own = (stack.enter_context(schema_in(server)) for _ in range(2))
        proxies = [stack.enter_context(Peer(("127.0.0.1", 0))) for _ in range(2 * by_proxy)]
        uris = [f"sip:{host}:{port}" for host, port in (proxy.address for proxy in proxies)]
        create_tables(theirs)
        given = {"check_time": 1, **parameters, **({"outbound_proxy": uris[0]} if by_proxy else {})}
        kamailio = stack.enter_context(Kamailio(directory, storage=theirs, parameters=given))
        init(own)
        imported = directory / "imported.toml"
        done = run_msilo("config", "import-kamailio", str(kamailio.configuration), "--output", str(imported))
        assert done.returncode == 0, done.stderr
        shutil.copy(EXAMPLE, directory)
        options = ["--route", "deferred:Deferred", "--set", "time_zone=UTC"]
        options += ["--set", f"outbound_proxy={uris[1]}"] if by_proxy else []
        service = stack.enter_context(Service(directory, *options, storage=own, config=imported.read_text()))
        for proxy, address in zip(proxies, (kamailio.udp, service.udp), strict=False):
            proxy.server = address
        yield Pair(kamailio.udp, service.udp, tuple(proxies))


def names_of(server: Address, **peers: Peer) -> dict[str, str]:
    """Return names for the addresses of a server and of peers."""
    addresses = {"SERVER": server, **{name.upper(): peer.address for name, peer in peers.items()}}
    return {f"{host}:{port}": name for name, (host, port) in addresses.items()}


def message(alice: Peer, to: str, name: str, body: bytes, *headers: Header, to_uri: str = "") -> bytes:
    """Return a MESSAGE of Alice's phone; one of the same `name` is the same for whatever server."""
    return alice.request(
        f"MESSAGE sip:{to}@example.com SIP/2.0",
        [
            ("From", f'"Alice" <sip:alice@example.com>;tag=alice-{name}'),
            ("To", f"<{to_uri or f'sip:{to}@example.com'}>"),
            ("Call-ID", f"alice-{name}"),
            ("CSeq", "7 MESSAGE"),
            *headers,
            ("Content-Length", str(len(body))),
        ],
        body,
    )


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> str:
    """A PostgreSQL, where Kamailio is installed."""
    require()
    url: str = request.getfixturevalue("postgres_server_url")
    return url


# -- Store and deliver -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(server: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """Both as they store, deliver and remind."""
    parameters: dict[str, Value] = {
        "extra_hdrs": "X-Fetched: $rm $cs, $fu at $ct\r\nX-None: $hdr(Nobody)\r\n",
        "add_contact": 1,
        "max_messages": 2,
        "snd_time_avp": "$avp(due)",
        "send_time": 1,
        "reminder": "sip:reminder@example.com",
    }
    with pair(server, tmp_path_factory.mktemp("both"), parameters) as both:
        yield both


def delivered(server: Address, name: str, body: bytes, *headers: Header) -> Seen:
    """Have a message stored for somebody of that name, come in as him, and return what his phone gets."""
    with Peer(server) as alice, Peer(server) as bob:
        assert alice.exchange(message(alice, name, name, body, *headers)).status == 202
        assert bob.exchange(bob.registration(name)).status == 200
        (taken,) = bob.take(1)
        return seen(taken, names_of(server, alice=alice, bob=bob))


def test_plain(both: Pair) -> None:
    check(both.run(lambda server: delivered(server, "plain", "Ça va?".encode(), PLAIN)), DIRECT, stored("plain"))


def test_every_header(both: Pair) -> None:
    headers: list[Header] = [
        ("Date", "Mon, 21 Sep 2026 14:13:20 GMT"),
        ("Subject", "lunch"),
        ("Priority", "urgent"),
        ("P-Asserted-Identity", "<sip:alice@example.com>"),
        ("Privacy", "none"),
        ("X-Note", "Grüße"),
        ("User-Agent", "phone/1"),
        ("Content-Type", "text/plain;charset=utf-8"),
        ("Contact", "<sip:alice@192.0.2.1>"),
        ("Reply-To", "<sip:alice@home.example.com>"),
        ("In-Reply-To", "1@example.com"),
        ("Organization", "Us"),
        ("Expires", "3000"),
        ("Allow", "MESSAGE"),
        ("Supported", "path"),
        ("Accept", "text/plain"),
        ("Call-Info", "<http://example.com/alice.png>;purpose=icon"),
        ("Content-Disposition", "render"),
        ("Content-Language", "fr"),
        ("MIME-Version", "1.0"),
    ]
    differs: Table = {
        "Content-Type": Differs(("text/plain",), ("text/plain;charset=utf-8",), "the type keeps its parameters"),
        "body": Differs(
            ("[Offline message - NOW] Lunch?",),
            ("Lunch?",),
            "add_date is for a type of exactly text/plain, which this is not",
        ),
        "Date": Differs(("NOW",), ("Mon, 21 Sep 2026 14:13:20 GMT",), "when it was written, where the sender says so"),
        "User-Agent": Differs(("kamailio",), ("phone/1",), "it is the sender's (P7)"),
    }
    others = kept(
        Accept="text/plain",
        Allow="MESSAGE",
        Call_Info="<http://example.com/alice.png>;purpose=icon",
        Content_Disposition="render",
        Expires="3000",
        Organization="Us",
        Priority="urgent",
        Subject="lunch",
        Supported="path",
    )
    both_seen = both.run(lambda server: delivered(server, "everything", b"Lunch?", *headers))
    check(both_seen, DIRECT, stored("everything"), others, differs)


def test_html(both: Pair) -> None:
    both_seen = both.run(lambda server: delivered(server, "html", b"<p>a", ("Content-Type", "text/html")))
    check(both_seen, DIRECT, stored("html"))


def test_cpim(both: Pair) -> None:
    body = b"From: <sip:alice@example.com>\r\n\r\nContent-Type: text/plain\r\n\r\nhello"
    reason = "any type is kept as it came, and its body octet for octet (RFC 3862 section 3)"
    differs: Table = {
        "Content-Type": Differs(("text/plain",), ("message/cpim",), reason),
        "body": Differs((f"[Offline message - NOW] {body.decode()}",), (body.decode(),), reason),
    }
    both_seen = both.run(lambda server: delivered(server, "cpim", body, ("Content-Type", "message/cpim")))
    check(both_seen, DIRECT, stored("cpim"), differs)


# -- Reminders ---------------------------------------------------------------------------------------------------------


def reminded(server: Address) -> tuple[Seen, list[Seen]]:
    """Return the reminder that a phone gets, and what it gets at its next REGISTERs, because it did not take that."""
    with Peer(server) as alice, Peer(server) as bob:
        assert bob.exchange(bob.registration("bob")).status == 200
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
        headers: list[Header] = [PLAIN, ("X-Deliver-At", due.strftime(SEND_TIME)), ("Subject", "tea"), ("X-Note", "1")]
        assert alice.exchange(message(alice, "bob", "tea", b"Tea!", *headers)).status == 202
        names = names_of(server, alice=alice, bob=bob) | {
            due.strftime(SEND_TIME): "DUE",
            f"Reminder message - {due.strftime(CTIME)}": "Reminder message - DUE",
        }
        reminder = bob.receive()
        assert datetime.now(UTC) >= due
        bob.answer(reminder, 480)
        again: list[Received] = []
        # That it failed may not have been noted yet at the first.
        for _ in range(5):
            assert bob.exchange(bob.registration("bob")).status == 200
            with suppress(TimeoutError):
                again += bob.take(1, 0.4)
        return seen(reminder, names), [seen(one, names) for one in again]


def test_reminder(both: Pair) -> None:
    kamailio, ours = both.run(reminded)
    others = kept(Subject="tea", X_Note="1", X_Deliver_At="DUE")
    check((kamailio[0], ours[0]), DIRECT, stored("tea", sender="<sip:reminder@example.com>"), DATED, others)
    # Kamailio 5.6.3 does not try it again, though its snd_time is 0 now: it stays in the list of what is under way.
    assert kamailio[1] == []
    (again,) = ours[1]
    assert again["From"] == ('"Alice" <sip:alice@example.com>;tag=alice-tea',)
    assert again["body"] == ("[Offline message - NOW] Tea!",)


# -- A full inbox ------------------------------------------------------------------------------------------------------


def filled(server: Address) -> tuple[list[Seen], list[str]]:
    """Return what is answered to one message after the other until the inbox is full, and what is delivered of them."""
    with Peer(server) as alice, Peer(server) as bob:
        names = names_of(server, alice=alice, bob=bob)
        answers = [
            seen(alice.exchange(message(alice, "carol", name, name.encode(), PLAIN)), names)
            for name in ("one", "two", "three")
        ]
        assert bob.exchange(bob.registration("carol")).status == 200
        bodies = [one for taken in bob.take(2) for one in seen(taken, names)["body"]]
        assert bob.exchange(bob.registration("carol", expires_s=0)).status == 200
        # There is room again, with Kamailio when its job has deleted what was delivered.
        deadline = datetime.now(UTC) + TOLERANCE
        while alice.exchange(message(alice, "carol", "four", b"four", PLAIN)).status != 202:
            assert datetime.now(UTC) < deadline
            # Kamailio with little memory does not bear it often.
            time.sleep(0.2)
        assert bob.exchange(bob.registration("carol")).status == 200
        bodies += [one for taken in bob.take(1) for one in seen(taken, names)["body"]]
        return answers, sorted(bodies)


def test_full_inbox(both: Pair) -> None:
    (kamailio, their_bodies), (ours, own_bodies) = both.run(filled)
    assert their_bodies == own_bodies
    via = "SIP/2.0/UDP ALICE;branch=*"
    answered: Table = {
        "Server": Differs(("kamailio",), (), "what nobody needs to know is not told"),
        "Via": Differs(
            (f"{via};rport=*;received=127.0.0.1",), (f"{via};received=127.0.0.1;rport=*",), "the order means nothing"
        ),
    }
    full: Table = {
        "Status": Differs(
            ("503 Not Stored",), ("480 Inbox Full",), "it is not the server that has no room; Kamailio's is its route's"
        ),
    }
    for answers, differs in zip(zip(kamailio, ours, strict=True), ({}, {}, full), strict=True):
        check(answers, answered, differs)


# -- Notifications -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notifying(server: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """Both as they tell senders that their messages wait."""
    parameters: dict[str, Value] = {
        "from_address": "sip:silo@$rd",
        "contact_hdr": "Contact: <sip:silo@$rd>;of=$rU\r\n",
        "content_type_hdr": "Content-Type: $cT\r\n",
        "offline_message": "$$ $fn: $rU is away ($hdr(Nobody)); your $rm $ci of $cl octets about $hdr(Subject) waits",
    }
    with pair(server, tmp_path_factory.mktemp("notifying"), parameters) as both:
        yield both


def told(server: Address, count: int) -> list[Seen]:
    """Return what Alice is told, so many times, about two messages to Bob and one to Carol."""
    with Peer(server) as alice:
        assert alice.exchange(alice.registration("alice")).status == 200
        host, port = alice.address
        headers: list[Header] = [
            ("Contact", f"<sip:alice@{host}:{port};transport=udp>"),
            ("Subject", "lunch"),
            ("Content-Type", "text/plain;charset=utf-8"),
        ]
        for to, name in (("bob", "first"), ("bob", "second"), ("carol", "third")):
            assert alice.exchange(message(alice, to, name, b"Lunch?", *headers)).status == 202
        all_told = [seen(taken, names_of(server, alice=alice)) for taken in alice.take(count)]
        return sorted(all_told, key=lambda one: one["body"])


def test_notification(notifying: Pair) -> None:
    # Who writes to the same again is told once in a minute; Kamailio tells each time.
    first, second, third = told(notifying.kamailio, 3)
    our_first, our_third = told(notifying.ours, 2)
    assert {name for name in first if first[name] != second[name]} == {"body"}
    check((first, our_first), DIRECT, NEW)
    check((third, our_third), DIRECT, NEW)


# -- By way of a proxy -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind(server: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    """Both as they send by way of an outbound proxy."""
    parameters: dict[str, Value] = {
        "add_date": 0,
        "from_address": "sip:silo@example.com",
        "content_type_hdr": "Content-Type: text/plain\r\n",
        "offline_message": "away",
        "snd_time_avp": "$avp(due)",
        "send_time": 1,
        "reminder": "sip:reminder@example.com",
    }
    with pair(server, tmp_path_factory.mktemp("behind"), parameters, by_proxy=True) as both:
        yield both


def forwarded(proxy: Peer) -> list[Seen]:
    """Return what comes to the proxy: a notification, a stored message, and a reminder."""
    with Peer(proxy.server) as alice, Peer(proxy.server) as bob:
        names = names_of(proxy.server, alice=alice, bob=bob, proxy=proxy)
        contact: Header = ("Contact", "<sip:alice@192.0.2.1>")
        stored = message(alice, "bob", "team", b"All of you", PLAIN, contact, to_uri="sip:team@example.com")
        assert alice.exchange(stored).status == 202
        taken = proxy.take(1)
        assert bob.exchange(bob.registration("bob")).status == 200
        taken += proxy.take(1)
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
        names[due.strftime(SEND_TIME)] = "DUE"
        deferred = message(alice, "bob", "tea", b"Tea!", PLAIN, ("X-Deliver-At", due.strftime(SEND_TIME)))
        deferred = deferred.replace(b"sip:alice@", b"sip:dave@")
        assert alice.exchange(deferred).status == 202
        # Dave is told that it waits.
        proxy.take(1)
        taken += proxy.take(1)
        return [seen(one, names) for one in taken]


def test_outbound_proxy(behind: Pair) -> None:
    with ThreadPoolExecutor(2) as pool:
        kamailio, ours = pool.map(forwarded, behind.proxies)
    notified, delivered, reminded = zip(kamailio, ours, strict=True)
    check(notified, BY_PROXY, NEW)
    owner: Table = {
        "Request-URI": Differs(
            ("sip:team@example.com",),
            ("sip:bob@example.com",),
            "it goes to its owner, not to what the sender wrote (P10)",
        ),
    }
    check(delivered, BY_PROXY, stored("team"), owner, kept(Contact="<sip:alice@192.0.2.1>"))
    check(reminded, BY_PROXY, stored("tea", sender="<sip:reminder@example.com>"), DATED, kept(X_Deliver_At="DUE"))
