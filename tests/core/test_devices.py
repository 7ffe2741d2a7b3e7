"""Each device of an owner gets each message, in order, whatever the others do."""

import pytest

from msilo_core import Config, DeliveryConfig, LocalError, SiloConfig
from msilo_core.actions import Dump, Settle
from tests.core.world import ALICE, BOB, World, answer, body_of, finished, header, message, register, status_of, tcp

TABLET = ("127.0.0.1", 5073)
LAPTOP = ("127.0.0.1", 5074)
NAMES = {BOB: "phone", TABLET: "tablet", LAPTOP: "laptop"}


def world(**changes: int) -> World:
    return World(Config(delivery=DeliveryConfig(devices="each", **changes)))  # type: ignore[arg-type]


class Devices:
    """Bob's devices, which answer what they get as they are told.

    Attributes:
        got: bodies by device, in order, repeats too.
        says: what a device answers, 200 OK if nothing is said; None: nothing.
    """

    def __init__(self, server: World) -> None:
        self.world = server
        self.got: dict[str, list[bytes]] = {name: [] for name in NAMES.values()}
        self.says: dict[str, str | None] = {}
        self.unanswered: list[tuple[tuple[str, int], bytes]] = []
        self.ids: dict[str, list[tuple[str, str, str]]] = {name: [] for name in NAMES.values()}
        self._seen = len(server.sent)
        self._branches: set[str] = set()
        self._cseq = 0

    def register(self, *addresses: tuple[str, int], q: str = "", expires: int = 3600) -> None:
        for address in addresses:
            self._cseq += 1
            contact = f'<sip:bob@127.0.0.1:{address[1]}>{q};+sip.instance="<urn:{NAMES[address]}>"'
            line = f"Expires: {expires}\r\n"
            self.world.datagram(register(contact=contact, cseq=self._cseq, sender=address, expires=line), address)
            self.answer()

    def send(self, *bodies: bytes) -> None:
        for body in bodies:
            answers = self.world.datagram(message(body, number=int(body)))
            assert [status_of(data) for data in answers if status_of(data)] == [202]
            self.answer()

    def wait(self, ms: int) -> None:
        end_ms = self.world.mono_ms + ms
        while self.world.mono_ms < end_ms:
            self.world.timed(min(250, end_ms - self.world.mono_ms))
            self.answer()

    def answer(self) -> None:
        while self._seen < len(self.world.sent):
            send = self.world.sent[self._seen]
            self._seen += 1
            branch = header(send.data, "Via")
            name = NAMES.get(send.flow.remote)
            if name is None or not send.data.startswith(b"MESSAGE") or branch in self._branches:
                continue
            self._branches.add(branch)
            self.got[name].append(body_of(send.data))
            self.ids[name].append((header(send.data, "Call-ID"), header(send.data, "CSeq"), header(send.data, "From")))
            status = self.says.get(name, "200 OK")
            if status is None:
                self.unanswered.append((send.flow.remote, send.data))
            else:
                self.world.datagram(answer(send.data, status), send.flow.remote)

    def answer_late(self, status: str = "200 OK") -> None:
        waiting, self.unanswered = self.unanswered, []
        for address, data in waiting:
            self.world.datagram(answer(data, status), address)
        self.answer()


def kept(server: World) -> list[tuple[bytes, int, int]]:
    """Return body, status and number of takers of each row."""
    found = [finished(server.store.find(number)) for number in range(1, 40)]
    rows = [entry.message for entry in found if entry is not None]
    return [(row.body, row.status, len(row.taken_by.split())) for row in rows]


def test_each_device_gets_each_message_in_order_with_the_same_identity() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.send(b"1", b"2", b"3")
    assert bob.got == {"phone": [b"1", b"2", b"3"], "tablet": [b"1", b"2", b"3"], "laptop": []}
    assert bob.ids["phone"] == bob.ids["tablet"]
    assert bob.world.waiting() == bob.world.dead() == []
    assert kept(bob.world) == [(b"1", 200, 2), (b"2", 200, 2), (b"3", 200, 2)]
    assert bob.world.engine.statistics.dumped_messages == 3
    bob.wait(100_000)
    assert bob.got["phone"] == [b"1", b"2", b"3"]


def test_q_does_not_keep_one_waiting() -> None:
    bob = Devices(world())
    bob.register(BOB, q=";q=0.1")
    bob.register(TABLET)
    bob.says = {"tablet": "486 Busy Here"}
    bob.send(b"1")
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1"], [b"1"])


def test_one_that_comes_late_gets_all_of_the_window_and_nothing_twice() -> None:
    bob = Devices(world(device_window_s=600))
    bob.send(b"1")
    bob.register(BOB)
    bob.wait(400_000)
    bob.send(b"2", b"3")
    bob.wait(300_000)
    bob.register(TABLET)
    assert bob.got == {"phone": [b"1", b"2", b"3"], "tablet": [b"2", b"3"], "laptop": []}
    bob.register(BOB, TABLET)
    bob.wait(400_000)
    bob.register(LAPTOP)
    assert bob.got == {"phone": [b"1", b"2", b"3"], "tablet": [b"2", b"3"], "laptop": []}
    bob.wait(200_000)
    assert kept(bob.world) == []
    assert bob.world.engine.statistics.expired_messages == 0


def test_one_that_moved_is_the_same() -> None:
    server = world()
    bob = Devices(server)
    bob.register(BOB)
    bob.send(b"1")
    contact = '<sip:bob@127.0.0.1:5073>;+sip.instance="<urn:phone>"'
    sent = server.datagram(register(contact=contact, cseq=9, sender=TABLET), TABLET)
    assert [status_of(data) for data in sent] == [200]


def test_one_that_is_dead_holds_up_nobody_and_gets_all_in_order_when_it_is_back() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None}
    bob.send(b"1", b"2")
    assert bob.got["phone"] == [b"1"]
    bob.wait(2_000)
    assert bob.got["phone"] == [b"1", b"2"]
    bob.send(b"3")
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2", b"3"], [b"1"])
    bob.wait(40_000)
    bob.says = {}
    bob.register(TABLET)
    assert bob.got["tablet"][-3:] == [b"1", b"2", b"3"]
    assert set(bob.got["tablet"][:-3]) == {b"1"}
    assert bob.got["phone"] == [b"1", b"2", b"3"]


def test_what_it_failed_to_take_is_tried_again_by_itself_and_nothing_overtakes_it() -> None:
    bob = Devices(world(retry_min_s=20))
    bob.register(BOB, TABLET)
    bob.says = {"tablet": "480 Temporarily Unavailable"}
    bob.send(b"1", b"2")
    bob.says = {}
    bob.send(b"3")
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2", b"3"], [b"1"])
    bob.wait(60_000)
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2", b"3"], [b"1", b"1", b"2", b"3"])


def test_it_is_tried_after_a_restart() -> None:
    bob = Devices(world(retry_min_s=20))
    bob.register(BOB, TABLET)
    bob.says = {"tablet": "480 Temporarily Unavailable"}
    bob.send(b"1", b"2")
    again = world()
    again.store, again.mono_ms = bob.world.store, bob.world.mono_ms
    again.store.clock = lambda: again.now.unix_ms
    after = Devices(again)
    after.send(b"3")
    assert (after.got["phone"], after.got["tablet"]) == ([b"3"], [])
    after.wait(60_000)
    assert (after.got["phone"], after.got["tablet"]) == ([b"3"], [b"1", b"2", b"3"])


def times(server: World) -> list[int]:
    """Return when each row is to be tried again."""
    found = [finished(server.store.find(number)) for number in range(1, 40)]
    return [entry.message.next_time_s for entry in found if entry is not None]


def test_new_message_is_no_reason_to_try_it_before_its_time() -> None:
    bob = Devices(world(retry_min_s=200))
    bob.register(BOB, expires=60)
    bob.register(TABLET)
    bob.says = {"tablet": "480 Temporarily Unavailable"}
    bob.send(b"1")
    bob.wait(70_000)
    bob.says = {}
    bob.send(b"2")
    bob.wait(60_000)
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1"], [b"1"])
    bob.wait(200_000)
    assert bob.got["tablet"] == [b"1", b"1", b"2"]


def test_time_of_what_is_behind_one_that_is_to_be_tried_later_stays() -> None:
    bob = Devices(world(retry_min_s=400))
    bob.register(BOB, LAPTOP, expires=60)
    bob.register(TABLET)
    bob.says = {"tablet": "480 No"}
    bob.send(b"1")
    bob.says = {"laptop": "480 No"}
    bob.send(b"2")
    bob.wait(70_000)
    again = world(retry_min_s=400)
    again.store, again.mono_ms = bob.world.store, bob.world.mono_ms
    again.store.clock = lambda: again.now.unix_ms
    after = Devices(again)
    before = times(again)
    after.send(b"3")
    assert after.got["tablet"] == []
    assert times(again)[:2] == before
    assert min(before) > again.now.unix_s


@pytest.mark.parametrize("status", ["488 Not Acceptable Here", "603 Decline"])
def test_one_that_refuses_for_good_is_not_asked_again(status: str) -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": status}
    bob.send(b"1")
    bob.says = {}
    bob.send(b"2")
    bob.register(TABLET)
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2"], [b"1", b"2"])


def test_it_is_set_aside_if_all_refuse_and_kept_for_nobody() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": "488 Not Acceptable Here", "phone": "415 Unsupported Media Type"}
    bob.send(b"1")
    assert bob.world.dead() == [b"1"]


def test_nobody_takes_it() -> None:
    bob = Devices(world(retry_min_s=20))
    bob.register(BOB, TABLET)
    bob.says = {"tablet": "480 No", "phone": "488 No"}
    bob.send(b"1", b"2")
    assert bob.world.waiting() == [b"1", b"2"]
    bob.says = {}
    bob.wait(60_000)
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"1", b"2"], [b"1", b"1", b"2"])


def test_all_are_slow() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None, "phone": None}
    bob.send(b"1")
    bob.wait(3_000)
    bob.says = {}
    bob.send(b"2")
    bob.answer_late()
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2"], [b"1", b"2"])


def test_answer_that_comes_late_counts() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None}
    bob.send(b"1", b"2")
    bob.wait(3_000)
    bob.says = {}
    bob.answer_late()
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2"], [b"1", b"2"])


def test_answer_that_comes_late_and_is_no() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None}
    bob.send(b"1")
    bob.wait(3_000)
    bob.says = {}
    bob.answer_late("480 No")
    assert kept(bob.world) == [(b"1", 200, 1)]
    bob.wait(60_000)
    assert bob.got["tablet"] == [b"1", b"1"]


def test_answers_that_come_while_the_outcome_is_recorded_count() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET, LAPTOP)
    bob.says = {"tablet": None, "laptop": None}
    bob.world.hold = {Settle}
    bob.send(b"1")
    bob.wait(3_000)
    bob.answer_late()
    assert len(bob.world.held) == 1
    bob.world.let_go()
    bob.answer()
    assert kept(bob.world) == [(b"1", 200, 3)]
    bob.wait(60_000)
    assert bob.got["tablet"] == bob.got["laptop"] == [b"1"]


def test_lease_is_given_back_though_answers_come_late_while_it_is_recorded() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET, LAPTOP)
    bob.says = {"tablet": None, "laptop": None}
    bob.send(b"1")
    bob.wait(3_000)
    (tablet, laptop), bob.unanswered = bob.unanswered, []
    bob.says = {"phone": None}
    contact = '<sip:bob@127.0.0.1:5072;at=wrist>;+sip.instance="<urn:watch>"'
    bob.world.datagram(register(contact=contact, cseq=9, sender=BOB), BOB)
    bob.answer()
    bob.world.hold = {Settle}
    bob.world.datagram(answer(tablet[1]), tablet[0])
    bob.answer_late()
    bob.world.datagram(answer(laptop[1]), laptop[0])
    assert [settle.is_late for settle in bob.world.held] == [True]
    bob.world.let_go()
    assert kept(bob.world) == [(b"1", 200, 4)]
    entry = finished(bob.world.store.find(1))
    assert entry is not None
    assert entry.lease_node == ""


def test_answer_that_comes_late_counts_for_a_page_that_is_sent_to_others() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.send(b"0")
    bob.says["tablet"] = None
    bob.send(b"1")
    bob.wait(10_000)
    bob.says["laptop"] = None
    bob.register(LAPTOP)
    assert bob.got["laptop"] == [b"0"]
    bob.world.hold = {Settle}
    (on_tablet, data), (on_laptop, other) = bob.unanswered
    bob.unanswered.clear()
    bob.world.datagram(answer(data), on_tablet)
    bob.world.datagram(answer(other, "480 No"), on_laptop)
    numbers = [settle.message_id for settle in bob.world.held]
    assert len(set(numbers)) == len(numbers) == 2, "the store might do two outcomes of one row in any order"
    bob.world.let_go()
    bob.says.clear()
    bob.register(LAPTOP, TABLET)
    assert bob.got == {"phone": [b"0", b"1"], "tablet": [b"0", b"1"], "laptop": [b"0", b"0", b"1"]}


def test_late_device_that_is_dead_is_tried_later_and_new_messages_do_not_wait_for_it() -> None:
    bob = Devices(world())
    bob.register(BOB)
    bob.send(b"1", b"2")
    bob.says = {"tablet": None}
    bob.register(TABLET)
    bob.send(b"3")
    assert bob.got["phone"] == [b"1", b"2"]
    bob.wait(2_000)
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2", b"3"], [b"1"])
    bob.wait(31_000)
    bob.says = {}
    bob.wait(60_000)
    assert bob.got["tablet"][-3:] == [b"1", b"2", b"3"]
    assert bob.world.engine.statistics.failed_messages > 0


def test_new_message_waits_while_all_that_are_there_are_left_out() -> None:
    bob = Devices(world(retry_min_s=20))
    bob.register(LAPTOP)
    bob.send(b"1")
    bob.register(LAPTOP, expires=0)
    bob.says = {"phone": "480 No"}
    bob.world.hold = {Settle}
    bob.register(BOB)
    bob.send(b"2")
    bob.world.let_go()
    bob.answer()
    assert bob.got["phone"] == [b"1"]
    bob.says = {}
    bob.wait(60_000)
    assert bob.got["phone"] == [b"1", b"1", b"2"]


def test_device_that_comes_while_a_page_is_sent_gets_all_from_the_oldest_on() -> None:
    bob = Devices(world())
    bob.send(b"1", b"2", b"3")
    bob.says = {"phone": None}
    bob.register(BOB)
    bob.register(TABLET)
    bob.says = {}
    bob.answer_late()
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1", b"2", b"3"], [b"1", b"2", b"3"])


def test_device_that_registers_while_it_fails_is_tried_at_once() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None}
    bob.send(b"1")
    bob.register(TABLET)
    bob.says = {}
    bob.answer_late("480 No")
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1"], [b"1", b"1"])


def test_pages_end() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": "480 No"}
    bob.send(*(b"%d" % n for n in range(40)))
    assert bob.got["phone"] == [b"%d" % n for n in range(40)]
    bob.says = {}
    bob.register(TABLET)
    assert bob.got["tablet"] == [b"0", *(b"%d" % n for n in range(40))]


def test_what_expires_on_the_way_through_a_page_is_passed_over() -> None:
    bob = Devices(world(device_window_s=10))
    bob.register(BOB)
    bob.send(b"1", b"2")
    bob.says = {"tablet": None}
    bob.register(TABLET)
    bob.wait(1_900)
    bob.wait(60_000)
    assert bob.got["tablet"] == [b"1"]


def test_lost_lease_does_not_lose_it_for_the_others() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None, "phone": None}
    bob.send(b"1")
    bob.world.failing = True
    bob.wait(16_000)
    bob.world.failing = False
    bob.says = {}
    bob.answer_late()
    assert kept(bob.world) == [(b"1", 200, 2)]


def test_answer_that_comes_while_the_page_is_leased_anew_counts() -> None:
    bob = Devices(world())
    bob.register(BOB)
    # The same device by another way, which is idle.
    contact = f'<sip:bob@127.0.0.1:{LAPTOP[1]}>;q=0.1;+sip.instance="<urn:phone>"'
    bob.world.datagram(register(contact=contact, cseq=9, sender=LAPTOP), LAPTOP)
    bob.says = {"phone": None}
    bob.send(b"1", b"2")
    bob.world.failing = True
    bob.wait(16_000)
    bob.world.failing = False
    bob.world.hold = {Dump, Settle}
    bob.wait(2_000)
    (dump,) = bob.world.held
    bob.world.held.clear()
    bob.says = {}
    bob.answer_late()
    bob.world.carry_out(bob.world.engine.complete(bob.world.perform(dump), bob.world.now))
    bob.answer()
    bob.world.let_go()
    assert bob.got == {"phone": [b"1", b"2"], "tablet": [], "laptop": []}


def test_who_has_it_is_recorded_though_the_lease_is_lost() -> None:
    bob = Devices(world(lease_s=3))
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None}
    bob.send(b"1")
    # The next renewal finds that another server has it.
    bob.world.store._rows[1].lease_node = "other"  # pyright: ignore[reportPrivateUsage]
    bob.wait(1_500)
    assert kept(bob.world) == [(b"1", 200, 1)]
    bob.answer_late("480 No")
    bob.says = {}
    bob.wait(60_000)
    assert (bob.got["phone"], bob.got["tablet"]) == ([b"1"], [b"1", b"1"])


def test_end_records_who_has_it() -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.says = {"tablet": None}
    bob.send(b"1")
    bob.world.carry_out(bob.world.engine.close(bob.world.now))
    bob.world.carry_out(bob.world.engine.abandon(bob.world.now))
    assert kept(bob.world) == [(b"1", 200, 1)]


def test_device_of_another_server_is_left_to_that() -> None:
    bob = Devices(world())
    bob.register(BOB)
    other = World(Config(node="other", delivery=DeliveryConfig(devices="each")))
    other.store = bob.world.store
    contact = '<sip:bob@192.0.2.7;transport=tcp>;+sip.instance="<urn:tablet>"'
    flow = tcp(("127.0.0.1", 5073))
    other.engine.flow_opened(flow, other.now)
    other.stream(register(contact=contact, cseq=9, transport="TCP"), flow)
    bob.send(b"1")
    assert kept(bob.world) == [(b"1", 200, 1)]
    sent: list[bytes] = []
    for _ in range(200):
        # Whoever looks first leaves it to the other for a while.
        sent += [send.data for send in other.timed(1_000) if send.data.startswith(b"MESSAGE")]
        bob.world.store.clock = lambda: other.now.unix_ms
        bob.wait(1_000)
    assert {body_of(data) for data in sent} == {b"1"}


@pytest.mark.parametrize(
    ("headers", "body"), [("Expires: 0\r\n", b"1"), ("Require: x\r\n", b"1"), ("Expires: x\r\n", b"1")]
)
def test_what_is_not_to_be_kept_goes_live(headers: str, body: bytes) -> None:
    bob = Devices(world())
    bob.register(BOB, TABLET)
    bob.world.datagram(message(body, headers=headers))
    bob.answer()
    assert (bob.got["phone"], bob.got["tablet"]) == ([body], [body])
    assert kept(bob.world) == []


def test_with_an_outbound_proxy_it_means_nothing() -> None:
    delivery = DeliveryConfig(devices="each")
    assert Config(delivery=delivery).is_each
    assert not Config(delivery=delivery, silo=SiloConfig(outbound_proxy="sip:192.0.2.9")).is_each


def test_any_asks_for_nothing_more() -> None:
    server = World()
    server.hold = {Dump}
    server.datagram(message())
    server.datagram(register(), BOB)
    (dump,) = server.held
    assert dump.devices == ()


def test_wrong_word() -> None:
    with pytest.raises(LocalError, match="devices = 'all' is not one of any or each: give one"):
        DeliveryConfig(devices="all")  # type: ignore[arg-type]


assert ALICE not in NAMES
