"""Engines that share their sockets: a response that comes to another, and a connection that is another's."""

import re

import pytest

from msilo_core import Config, Flow, LocalError, SiloConfig, Worker
from msilo_core.actions import Action, Dropped, Dump, HandOver, Retry
from msilo_core.entropy import MAGIC_COOKIE
from tests.core.world import (
    ALICE,
    BOB,
    World,
    answer,
    body_of,
    header,
    message,
    register,
    status_of,
    tcp,
    udp,
)


def workers(silo: SiloConfig | None = None) -> tuple[World, World]:
    """Return two on one store."""
    first, second = (
        World(Config(node=f"n.{n}", worker=Worker(n, 2), silo=silo or SiloConfig()), seed=n) for n in range(2)
    )
    second.store, second.store.clock = first.store, lambda: max(first.now, second.now).unix_ms
    return first, second


def branch_of(request: bytes) -> str:
    found = re.search(r";branch=([^;]+)", header(request, "Via"))
    assert found is not None
    return found[1]


def dropped(actions: list[Action]) -> list[str]:
    assert all(isinstance(action, Dropped) for action in actions)
    return [action.reason for action in actions if isinstance(action, Dropped)]


class TestMark:
    @pytest.mark.parametrize(
        ("branch", "other"),
        [
            ("0-ab", 0), ("2-", 2), ("2-ab.msilo", 2), ("1-ab", None), ("3-ab", None), ("02-ab", None), ("-1-ab", None),
            ("999-ab", None), ("1000-ab", None), ("٢-ab", None), ("2ab", None), ("../2-", None), ("", None),
        ],
    )  # fmt: skip
    def test_names_another_that_there_is(self, branch: str, other: int | None) -> None:
        assert Worker(1, 3).other(MAGIC_COOKIE + branch) == other
        assert Worker(1, 3).other(branch) is None

    def test_there_is_no_other(self) -> None:
        assert (Worker().mark, Worker().other(f"{MAGIC_COOKIE}1-ab")) == ("", None)

    @pytest.mark.parametrize(("number", "count"), [(-1, 2), (2, 2), (0, 0), (0, 1000)])
    def test_out_of_range(self, number: int, count: int) -> None:
        with pytest.raises(LocalError, match=rf"worker {number} of {count} is out of range: give 1 to 999 of them"):
            Worker(number, count)

    def test_branches_have_it(self) -> None:
        world, _ = workers()
        world.datagram(register(), BOB)
        (relayed,) = world.datagram(message())
        assert branch_of(relayed).startswith(f"{MAGIC_COOKIE}0-")

    def test_branches_of_a_lone_engine_have_none(self) -> None:
        world = World()
        world.datagram(register(), BOB)
        (relayed,) = world.datagram(message())
        assert re.fullmatch(rf"{MAGIC_COOKIE}[0-9a-f]{{17,}}\.[0-9a-f]{{16}}", branch_of(relayed))


class TestResponse:
    def relayed(self) -> tuple[World, World, bytes]:
        first, second = workers()
        first.datagram(register(), BOB)
        (relayed,) = first.datagram(message())
        return first, second, relayed

    @pytest.mark.parametrize("flow", [udp(BOB), tcp(BOB)])
    def test_is_handed_over_and_ends_the_transaction(self, flow: Flow) -> None:
        first, second, relayed = self.relayed()
        ok = answer(relayed)
        receive = second.engine.receive_stream if flow.is_stream else second.engine.receive_datagram
        assert receive(ok, flow, second.now) == [HandOver(0, flow, ok)]
        (passed_on,) = first.carry_out(first.engine.receive_handed_over(ok, flow, first.now))
        assert (status_of(passed_on), first.sent[-1].flow) == (200, udp(ALICE))
        assert first.engine.is_idle

    def test_nothing_that_is_no_response_to_one_of_ours_is_taken(self) -> None:
        first, _, relayed = self.relayed()
        elsewhere = answer(relayed).replace(branch_of(relayed).encode(), b"z9hG4bK1-0123456789abcdef1")
        by_another_name = answer(relayed).replace(b"127.0.0.1:5060", b"127.0.0.1:5061")
        for data in (message(), b"", b"\r\n\r\n", b"SIP/2.0 200 OK", elsewhere, by_another_name):
            actions = first.engine.receive_handed_over(data, udp(BOB), first.now)
            # Not to another one either, though its branch says so.
            assert dropped(actions) == ["response without a transaction"]

    @pytest.mark.parametrize("mark", [b"1-", b"2-", b"77-", b"../", b"%00-", b"0", b""])
    def test_with_a_mark_of_nobody_is_dropped(self, mark: bytes) -> None:
        first, second, relayed = self.relayed()
        odd = answer(relayed).replace(b"=z9hG4bK0-", b"=z9hG4bK" + mark)
        # A slash cannot stand in a branch at all.
        reason = "malformed: ParseError" if b"/" in mark else "response without a transaction"
        assert dropped(second.engine.receive_datagram(odd, udp(BOB), second.now)) == [reason]
        assert not first.engine.is_idle

    def test_of_a_lone_engine_is_never_handed_over(self) -> None:
        world = World()
        data = answer(message()).replace(b"z9hG4bKa1", b"z9hG4bK1-0123456789abcdef1")
        assert dropped(world.engine.receive_datagram(data, udp(BOB), world.now)) == ["response without a transaction"]


class TestConnection:
    BY_TCP = "<sip:bob@127.0.0.1:5072;transport=tcp>"

    def registered(self) -> tuple[World, World, Flow]:
        """Return one that the phone is connected to, and another."""
        first, second = workers()
        stream = tcp(BOB, 7)
        first.carry_out(first.engine.flow_opened(stream, first.now))
        first.stream(register(contact=self.BY_TCP, transport="TCP"), stream)
        return first, second, stream

    def test_of_another_worker_is_what_a_live_message_leaves_by(self) -> None:
        first, second, stream = self.registered()
        (relayed,) = second.datagram(message())
        assert (second.sent[-1].flow, body_of(relayed)) == (stream, b"hello")
        ok = answer(relayed)
        assert first.engine.receive_stream(ok, stream, first.now) == [HandOver(1, stream, ok)]
        (passed_on,) = second.carry_out(second.engine.receive_handed_over(ok, stream, second.now))
        assert status_of(passed_on) == 200

    def test_of_another_worker_is_what_a_stored_message_leaves_by(self) -> None:
        first, second = workers()
        second.datagram(message())
        stream = tcp(BOB, 7)
        first.carry_out(first.engine.flow_opened(stream, first.now))
        first.hold = {Dump}
        first.stream(register(contact=self.BY_TCP, transport="TCP"), stream)
        (sent,) = second.carry_out(second.engine.dump("sip:bob@example.com", None, second.now))
        assert (body_of(sent), second.sent[-1].flow) == (b"hello", stream)
        second.carry_out(second.engine.receive_handed_over(answer(sent), stream, second.now))
        assert first.waiting() == []

    def test_that_is_gone_fails_what_was_sent_by_it(self) -> None:
        _, second, stream = self.registered()
        second.datagram(message())
        # As its owner says when it is to send something there, or when it ends.
        (stored,) = second.carry_out(second.engine.flow_closed(stream, "gone", second.now))
        assert status_of(stored) == 202
        assert second.waiting() == [b"hello"]

    def test_of_another_server_is_not_used(self) -> None:
        first, _, stream = self.registered()
        other = World(Config(node="other.1", worker=Worker(1, 2)))
        other.store = first.store
        other.datagram(message())
        assert other.sent[0].flow != stream

    def test_of_a_lone_engine_with_a_name_like_a_worker_is_not_used(self) -> None:
        first, _, stream = self.registered()
        other = World(Config(node="n.1"))
        other.store = first.store
        other.datagram(message())
        assert other.sent[0].flow != stream


def test_who_does_not_know_yet_where_to_send_leaves_what_is_due_to_others() -> None:
    # By way of the outbound proxy, from the address that something last came to: nothing has come here.
    first, second = workers(SiloConfig(outbound_proxy="sip:127.0.0.9:5070"))
    first.datagram(register(), BOB)
    asked: list[bool] = []
    for world in (first, second):
        world.mono_ms = 5_000
        asked += [one.unregistered for one in world.engine.handle_timeout(world.now) if isinstance(one, Retry)]
    # By who knows it alone; and as soon as the other does, by that, too.
    assert asked == [True]
    second.datagram(register(cseq=2), BOB)
    second.mono_ms = 10_000
    asked += [one.unregistered for one in second.engine.handle_timeout(second.now) if isinstance(one, Retry)]
    assert asked == [True, True]
