"""MSILO.md section 3: m_store, m_store_addrs, and what the sender is told."""

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest

from msilo_core import Call, Config, Limits, ServerRoute, SiloConfig
from msilo_core.actions import LookUp, Message
from tests.core.world import (
    ALICE,
    BOB,
    EPOCH_MS,
    World,
    answer,
    body_of,
    finished,
    header,
    message,
    register,
    status_of,
)

CONTENT_TYPE = "Content-Type: text/plain\r\n"
TOLD = SiloConfig(
    from_address="sip:registrar@example.com",
    offline_message="$rU is away, $fn; your message of $cl octets waits",
    content_type_hdr=CONTENT_TYPE,
    contact_hdr="Contact: <sip:registrar@example.com>\r\n",
)


def world(silo: SiloConfig | None = None, route: Any = None) -> World:
    """Return a server with these parameters."""
    return World(Config(silo=silo if silo is not None else SiloConfig()), route=route)


def rows(world: World, owner: str = "sip:bob@example.com") -> list[Message]:
    """Return the rows of an inbox."""
    return finished(world.store.list(owner=owner))


class Storing(ServerRoute):
    """A route whose request_route is given."""

    uses_location: ClassVar[bool] = False

    def __init__(self, request_route: Callable[[Call], object]) -> None:
        self._request_route = request_route

    def request_route(self, call: Call) -> None:
        """Do what is given; say what could not be stored."""
        self._request_route(call)
        if not call.is_decided:
            call.reply(call.status, call.reason)


# -- The functions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m_store", "mstore"])
def test_owner_is_the_request_uri_and_else_to(name: str) -> None:
    server = world(route=Storing(lambda call: getattr(call, name)()))
    assert status_of(server.datagram(message())[0]) == 202
    only_to = message(b"two", number=2).replace(b"MESSAGE sip:bob@example.com", b"MESSAGE sip:127.0.0.1")
    assert status_of(server.datagram(only_to)[0]) == 202
    assert [row.body for row in rows(server)] == [b"hello", b"two"]


@pytest.mark.parametrize("name", ["m_store", "mstore_uri"])
def test_owner_may_be_given(name: str) -> None:
    server = world(route=Storing(lambda call: getattr(call, name)("sip:carol@example.com")))
    assert status_of(server.datagram(message())[0]) == 202
    (row,) = rows(server, "sip:carol@example.com")
    assert (row.src_addr, row.dst_addr) == ("sip:alice@example.com", "sip:bob@example.com")


@pytest.mark.parametrize("name", ["m_store_addrs", "mstore_addrs"])
def test_sender_and_recipient_may_be_given(name: str) -> None:
    addresses = ("sip:carol@example.com", "sip:list@example.com", "sip:team@example.com")
    server = world(route=Storing(lambda call: getattr(call, name)(*addresses)))
    assert status_of(server.datagram(message())[0]) == 202
    (row,) = rows(server, "sip:carol@example.com")
    assert (row.src_addr, row.dst_addr) == addresses[1:]


@pytest.mark.parametrize("owner", ["sip:example.com", "tel:+1", "bob", ""])
def test_owner_that_is_none_stores_nothing(owner: str) -> None:
    server = world(route=Storing(lambda call: call.m_store(owner)))
    assert 400 <= status_of(server.datagram(message())[0]) < 500


@pytest.mark.parametrize("name", ["m_dump", "mdump"])
def test_dump_on_request(name: str) -> None:
    class Dumping(ServerRoute):
        def request_route(self, call: Call) -> None:
            if call.method == "MESSAGE" and call.request.get("x-dump"):
                assert getattr(call, name)()
                assert not call.is_decided
                call.reply(200)
            else:
                super().request_route(call)

    server = world(route=Dumping())
    server.datagram(register(), BOB)
    (live,) = server.datagram(message())
    assert status_of(server.datagram(answer(live, "480 Away"), BOB)[0]) == 202
    told, dumped = server.datagram(message(number=2, headers="X-Dump: 1\r\n"))
    assert (status_of(told), body_of(dumped)) == (200, b"hello")


@pytest.mark.parametrize("name", ["m_dump", "mdump_uri"])
def test_dump_of_another_owner(name: str) -> None:
    def dump(call: Call) -> None:
        assert not getattr(call, name)("sip:example.com")
        assert call.status == 400
        assert getattr(call, name)("sip:bob@example.com")
        call.reply(200)

    store = world()
    store.datagram(message())
    server = world(route=Storing(dump))
    server.store = store.store
    store.datagram(register(), BOB)
    store.mono_ms = server.mono_ms = 60_000
    told = server.datagram(message(to="carol", number=2))
    assert status_of(told[0]) == 200


def test_dump_while_the_store_is_behind() -> None:
    told: list[tuple[bool, int]] = []

    def dump(call: Call) -> None:
        told.append((call.m_dump(), call.status))
        told.append((call.m_dump(), call.status))
        call.reply(200)

    server = World(limits=Limits(storage_actions_max=1), route=Storing(dump))
    server.hold = {LookUp}
    assert status_of(server.datagram(message())[0]) == 200
    assert told == [(True, 0), (False, 503)]
    assert len(server.held) == 1


def test_dump_for_a_to_that_is_nobody() -> None:
    server = world(route=Storing(lambda call: call.m_dump()))
    told = server.datagram(message().replace(b"To: <sip:bob@example.com>", b"To: <sip:example.com>"))
    assert status_of(told[0]) == 400


@pytest.mark.parametrize("due", ["", "20260921141320", "20260231120000"], ids=["none", "passed", "no date"])
def test_what_is_stored_for_somebody_who_is_there_is_delivered_at_once(due: str) -> None:
    """Otherwise it would wait until his phone registers anew, which may take an hour."""

    class Keeping(ServerRoute):
        def request_route(self, call: Call) -> None:
            if call.method == "MESSAGE":
                call.avps["due"] = due
                assert call.m_store()
            else:
                super().request_route(call)

    server = world(SiloConfig(snd_time_avp="$avp(due)"), Keeping())
    server.datagram(register(), BOB)
    accepted, sent = server.datagram(message())
    assert (status_of(accepted), body_of(sent)) == (202, b"hello")
    server.datagram(answer(sent, "480 Away"), BOB)
    # What he did not take is tried again, and what comes behind it does not overtake it.
    assert len(server.datagram(message(b"two", number=2))) == 1
    again, *_ = server.pass_time(11_000)
    assert body_of(again) == b"hello"
    (second,) = server.datagram(answer(again), BOB)
    assert body_of(second) == b"two"


class Keeping(ServerRoute):
    """Stores each MESSAGE for whom is given, after a try for nobody."""

    def __init__(self, owner: str | None) -> None:
        self._owner = owner

    def request_route(self, call: Call) -> None:
        """Store; all else as usual."""
        if call.method == "MESSAGE":
            assert not call.m_store("sip:example.com")
            assert call.m_store(self._owner)
        else:
            super().request_route(call)


@pytest.mark.parametrize("owner", [None, "sip:carol@example.com"])
def test_whoever_it_is_stored_for_and_is_there_gets_it_at_once(owner: str | None) -> None:
    server = world(route=Keeping(owner))
    server.datagram(register("carol" if owner else "bob", "<sip:someone@127.0.0.1:5072>"), BOB)
    accepted, sent = server.datagram(message())
    assert (status_of(accepted), body_of(sent)) == (202, b"hello")
    assert server.datagram(answer(sent), BOB) == []
    assert rows(server, owner or "sip:bob@example.com") == []


def test_another_who_is_away_gets_it_when_he_comes() -> None:
    server = world(route=Keeping("sip:carol@example.com"))
    assert [status_of(data) for data in server.datagram(message())] == [202]
    _, sent = server.datagram(register("carol"), BOB)
    assert body_of(sent) == b"hello"


# -- What is kept ------------------------------------------------------------------------------------------------------


def test_header_lines_of_an_avp_are_kept_instead_of_the_requests_own() -> None:
    def store(call: Call) -> None:
        call.avps["hdrs"] = "X-Kept: yes\r\nX-Other: 1"
        call.m_store()

    server = world(SiloConfig(extra_hdrs_avp="$avp(hdrs)"), Storing(store))
    server.datagram(message(headers="Subject: lunch\r\n"))
    assert rows(server)[0].extra_hdrs == "X-Kept: yes\r\nX-Other: 1\r\n"


def test_avp_that_is_not_set_changes_nothing() -> None:
    server = world(SiloConfig(extra_hdrs_avp="$avp(hdrs)", snd_time_avp="$avp(due)"))
    server.datagram(message(headers="Subject: lunch\r\n"))
    (row,) = rows(server)
    assert (row.extra_hdrs, row.snd_time_s) == ("Subject: lunch\r\n", 0)


def test_avp_that_is_empty_keeps_no_header_line() -> None:
    def store(call: Call) -> None:
        call.avps["hdrs"] = ""
        call.m_store()

    server = world(SiloConfig(extra_hdrs_avp="$avp(hdrs)"), Storing(store))
    server.datagram(message(headers="Subject: lunch\r\n"))
    assert rows(server)[0].extra_hdrs == ""


@pytest.mark.parametrize("wrong", ["none", "X-Length", "Content-Length: 5", "l: 5", "t: <sip:carol@example.com>"])
def test_avp_that_holds_no_header_lines_to_add_costs_that_message_alone(wrong: str) -> None:
    def store(call: Call) -> None:
        call.avps["hdrs"] = call.request.get("x-hdrs") or "X: y"
        call.m_store()

    server = world(SiloConfig(extra_hdrs_avp="$avp(hdrs)"), Storing(store))
    assert status_of(server.datagram(message(headers=f"X-Hdrs: {wrong}\r\n"))[0]) == 500
    assert status_of(server.datagram(message(number=2))[0]) == 202
    assert server.engine.statistics.route_errors == 1


def test_expires_shortens_the_lifetime_and_never_lengthens_it() -> None:
    server = world(SiloConfig(expire_time=100))
    for number, (expires, lifetime) in enumerate([("", 100), ("Expires: 60\r\n", 60), ("Expires: 999\r\n", 100)]):
        server.datagram(message(number=number, headers=expires))
        assert rows(server)[-1].exp_time_s == EPOCH_MS // 1000 + lifetime


@pytest.mark.parametrize(
    ("date", "lifetime"),
    [
        # EPOCH_MS is Mon, 21 Sep 2026 14:13:20 GMT.
        ("Mon, 21 Sep 2026 14:12:50 GMT", 30), ("Mon, 21 Sep 2026 14:13:20 GMT", 60),
        # A clock that is wrong must not lose what it dates.
        ("Mon, 21 Sep 2026 14:14:20 GMT", 60), ("Mon, 21 Sep 2026 14:12:20 GMT", 60),
        ("Mon, 21 Sep 2020 14:12:20 GMT", 60), ("yesterday", 60),
    ],
)  # fmt: skip
def test_expires_counts_from_a_date_that_is_credible(date: str, lifetime: int) -> None:
    """RFC 3428 section 7.

    "If the MESSAGE request containing an Expires header field also contains a Date header field, the UAS SHOULD
    interpret the Expires header field value as delta time from the Date header field value."
    """
    server = world()
    server.datagram(message(headers=f"Expires: 60\r\nDate: {date}\r\n"))
    assert rows(server)[0].exp_time_s == EPOCH_MS // 1000 + lifetime


def test_notice_of_typing_is_not_stored() -> None:
    """RFC 3994: what says that somebody is typing is true for seconds."""
    server = world()
    typing = message(b"<isComposing/>").replace(b"text/plain", b"Application/im-iscomposing+xml;charset=utf-8")
    assert status_of(server.datagram(typing)[0]) == 200
    assert rows(server) == []
    server.datagram(register(), BOB)
    (relayed,) = server.datagram(typing.replace(b"z9hG4bKa1", b"z9hG4bKa2"))
    assert body_of(relayed) == b"<isComposing/>"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 202), ("TEXT/html;charset=utf-8", 202), ("message/CPIM", 202), ("image/png", 415),
        ("message/imdn+xml", 415), ("application/im-iscomposing+xml", 200),
    ],
)  # fmt: skip
def test_types_that_are_stored_are_a_setting(content_type: str, status: int) -> None:
    server = world(SiloConfig(content_types=("text/*", "message/cpim")))
    (told,) = server.datagram(message().replace(b"text/plain", content_type.encode()))
    assert status_of(told) == status
    assert header(told, "Accept") == ("text/*, message/cpim" if status == 415 else "")


def test_message_without_a_type_has_none_to_refuse() -> None:
    server = world(SiloConfig(content_types=("text/plain",)))
    assert status_of(server.datagram(message(b"").replace(b"Content-Type: text/plain\r\n", b""))[0]) == 202
    every = world(SiloConfig(content_types=("*/*",)))
    assert status_of(every.datagram(message().replace(b"text/plain", b"image/png"))[0]) == 202


def test_inbox_that_is_full() -> None:
    server = world(SiloConfig(max_messages=2))
    statuses = [status_of(server.datagram(message(number=number))[0]) for number in range(3)]
    assert statuses == [202, 202, 480]
    # A repeat of one that is kept is kept.
    again = message(number=1).replace(b"z9hG4bKa1", b"z9hG4bKagain")
    assert status_of(server.datagram(again)[0]) == 202
    assert len(rows(server)) == 2


# -- What the sender is told -------------------------------------------------------------------------------------------


def test_sender_is_told_that_the_message_waits() -> None:
    server = world(TOLD)
    accepted, told = server.datagram(message())
    assert status_of(accepted) == 202
    assert told.startswith(b"MESSAGE sip:alice@example.com SIP/2.0\r\n")
    assert header(told, "To") == "<sip:alice@example.com>"
    assert header(told, "From").startswith("<sip:registrar@example.com>;tag=")
    assert header(told, "Contact") == "<sip:registrar@example.com>"
    assert header(told, "Content-Type") == "text/plain"
    assert header(told, "CSeq") == "1 MESSAGE"
    assert body_of(told) == b'bob is away, "Alice"; your message of 5 octets waits'
    # Back where the message came from, and nowhere that its sender wrote.
    assert server.sent[-1].flow.remote == ALICE
    assert server.datagram(answer(told)) == []
    assert server.pass_time(60_000) == []
    assert server.engine.statistics.notifications == 1


def test_notification_may_have_several_contacts() -> None:
    contacts = "Contact: <sip:registrar@example.com>\r\nContact: <sip:$rU@example.com>;q=0.1\r\n"
    server = world(msgspec.structs.replace(TOLD, contact_hdr=contacts))
    _, told = server.datagram(message())
    assert contacts.replace("$rU", "bob").encode() in told


@pytest.mark.parametrize(
    ("use_contact", "contact", "request_uri"),
    [
        (1, "Contact: <sip:alice@192.0.2.4:5071;ob?X=y>;q=1\r\n", "sip:alice@192.0.2.4:5071;ob"),
        (1, "Contact: *\r\n", "sip:alice@example.com"),
        (1, "Contact: tel\r\n", "sip:alice@example.com"),
        (0, "Contact: <sip:alice@192.0.2.4:5071>\r\n", "sip:alice@example.com"),
    ],
)
def test_whom_the_notification_is_for(use_contact: int, contact: str, request_uri: str) -> None:
    server = world(
        SiloConfig(from_address="sip:r@example.com", offline_message="x", content_type_hdr=CONTENT_TYPE,
                   use_contact=use_contact)
    )  # fmt: skip
    told = server.datagram(message(headers=contact))[-1]
    assert told.split(b" ")[1] == request_uri.encode()


@pytest.mark.parametrize(
    "silo",
    [
        SiloConfig(),
        SiloConfig(from_address="sip:r@example.com"),
        SiloConfig(offline_message="x", content_type_hdr=CONTENT_TYPE),
    ],
)
def test_nobody_is_told_where_that_is_not_wanted(silo: SiloConfig) -> None:
    assert [status_of(data) for data in world(silo).datagram(message())] == [202]


def test_message_with_the_flag_is_not_notified_of() -> None:
    class Flagging(ServerRoute):
        def request_route(self, call: Call) -> None:
            if call.request.get("x-quiet"):
                call.flags.add(5)
            super().request_route(call)

    config = SiloConfig(
        from_address="sip:r@example.com", offline_message="x", content_type_hdr=CONTENT_TYPE, skip_notification_flag=5
    )
    server = world(config, Flagging())
    assert len(server.datagram(message(headers="X-Quiet: 1\r\n"))) == 1
    assert len(server.datagram(message(number=2))) == 2


def test_who_writes_again_and_again_is_told_once_in_a_while() -> None:
    server = world(TOLD)
    assert len(server.datagram(message(number=0))) == 2
    server.datagram(answer(server.sent[-1].data))
    assert [len(server.datagram(message(number=number))) for number in (1, 2)] == [1, 1]
    assert len(server.datagram(message(number=3, to="carol"))) == 2
    server.datagram(answer(server.sent[-1].data))
    server.pass_time(60_000)
    assert len(server.datagram(message(number=4))) == 2


def test_sender_with_another_uri_of_the_same_address_is_not_another() -> None:
    server = World(Config(silo=TOLD))
    uris = (b"sip:alice@example.com?subject=x", b"sip:alice@example.com;x=1", b"sip:alice@EXAMPLE.com:5060")
    told = [
        server.datagram(message(number=number).replace(b"<sip:alice@example.com>", b"<%s>" % uri))[1:]
        for number, uri in enumerate(uris)
    ]
    # And no Request-URI has headers (RFC 3261 section 19.1.1).
    assert [[data.partition(b"\r\n")[0] for data in sent] for sent in told] == [
        [b"MESSAGE sip:alice@example.com SIP/2.0"], [], [],
    ]  # fmt: skip


def test_notification_is_never_notified_of_nor_stored() -> None:
    server = world(TOLD)
    _, told = server.datagram(message())
    # As when alice is away too: a proxy sends it here, and a program in between has made a request of its own of it.
    for back in (
        told.replace(b"Via: ", b"Via: SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bKp\r\nVia: ", 1),
        message(b"away", number=9, to="alice").replace(
            b"sip:alice@example.com>;tag", b"sip:registrar@example.com>;tag"
        ),
    ):
        answers = server.datagram(back)
        assert len(answers) == 1
    assert rows(server, "sip:alice@example.com")[0].src_addr == "sip:registrar@example.com"
    assert status_of(server.sent[-2].data) == 480


def test_who_was_told_is_remembered_of_a_bounded_number() -> None:
    server = World(Config(silo=TOLD), Limits(notified_max=1))
    told = [len(server.datagram(message(number=number, to=to))) for number, to in enumerate(("bob", "carol", "bob"))]
    assert told == [2, 2, 2]


def test_who_has_no_address_is_not_told() -> None:
    server = world(TOLD)
    (accepted,) = server.datagram(message().replace(b"<sip:alice@example.com>", b"<tel:+15551234567>"))
    assert status_of(accepted) == 202


def test_repeat_is_not_notified_of() -> None:
    server = world(TOLD)
    server.datagram(message())
    server.datagram(answer(server.sent[-1].data))
    server.pass_time(61_000)
    assert len(server.datagram(message().replace(b"z9hG4bKa1", b"z9hG4bKagain"))) == 1
