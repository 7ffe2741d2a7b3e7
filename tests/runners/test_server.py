"""The server inside an application: how it begins, how it ends, and what it leaves to the application."""

import gc
import logging
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from msilo_core import SiloConfig
from msilo_core.flow import Address
from msilo_core.route import Call
from msilo_runners import Server, ServerConfig, SettingsError, StartError
from msilo_runners.addresses import parse_transport_address
from msilo_storage import create_schema
from tests.ports import free_port
from tests.runners.loopback import UdpPeer

UDP = "udp://127.0.0.1:0"
TCP = "tcp://127.0.0.1:0"
MEMORY = ServerConfig(listen=(UDP,), storage="memory:", grace_s=1)


def message(peer: UdpPeer, number: int = 1, body: str = "hello") -> bytes:
    return (
        "MESSAGE sip:bob@example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {peer.sent_by};branch=z9hG4bK{number};rport\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:alice@example.com>;tag={number}\r\n"
        "To: <sip:bob@example.com>\r\n"
        f"Call-ID: {number}@example.com\r\n"
        "CSeq: 1 MESSAGE\r\n"
        "Content-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def register(peer: UdpPeer) -> bytes:
    return (
        "REGISTER sip:example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {peer.sent_by};branch=z9hG4bKregister;rport\r\n"
        "Max-Forwards: 70\r\n"
        "From: <sip:bob@example.com>;tag=b\r\n"
        "To: <sip:bob@example.com>\r\n"
        "Call-ID: register@example.com\r\n"
        "CSeq: 1 REGISTER\r\n"
        f"Contact: <sip:bob@{peer.sent_by}>\r\n"
        "Expires: 3600\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


async def status_of(peer: UdpPeer) -> int:
    data, _ = await peer.receive()
    version, status, _ = data.split(b" ", 2)
    assert version == b"SIP/2.0"
    return int(status)


def address_of(server: Server, index: int = 0) -> Address:
    return parse_transport_address(server.addresses[index]).address


class TestBeginning:
    async def test_it_serves_on_the_addresses_that_it_names(self) -> None:
        config = ServerConfig(listen=(UDP, TCP, "udp://[::1]:0"), storage="memory:")
        async with Server(config) as server:
            assert [address.rpartition(":")[0] for address in server.addresses] == [
                "udp://127.0.0.1", "tcp://127.0.0.1", "udp://[::1]"
            ]  # fmt: skip
            for number, index in enumerate((0, 2)):
                with UdpPeer(address_of(server, index)[0]) as peer:
                    peer.send(message(peer, number), address_of(server, index))
                    assert await status_of(peer) == 202
            assert server.statistics.stored_messages == 2
            assert [kept.body for kept in await server.store.list("sip:bob@example.com")] == [b"hello"] * 2
            assert server.batches["Store"].rows == 2
            assert server.transport.faults == 0

    @pytest.mark.parametrize("transport", ["udp", "tcp"])
    async def test_a_port_that_is_taken_is_one_clear_error_and_leaves_nothing_open(self, transport: str) -> None:
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", 0))
            uri = f"{transport}://127.0.0.1:{other.getsockname()[1]}"
            if transport == "tcp":
                other.listen()
            with pytest.raises(StartError, match=f"^cannot listen on {uri}: Address already in use$"):
                await Server(ServerConfig(listen=(UDP, uri), storage="memory:")).__aenter__()
        # What was bound before it is free again, and so is the address itself.
        async with Server(ServerConfig(listen=(uri,), storage="memory:")):
            pass

    async def test_storage_that_cannot_be_opened_is_one_clear_error(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match=r"directory .* does not exist"):
            await Server(ServerConfig(listen=(UDP,), storage=f"sqlite:///{tmp_path}/no/x.db")).__aenter__()
        with pytest.raises(SettingsError, match="'mysql:x' is not a storage URL"):
            await Server(ServerConfig(listen=(UDP,), storage="mysql:x")).__aenter__()
        with pytest.raises(SettingsError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1/msilo cannot be read"):
            await Server(ServerConfig(listen=(UDP,), storage="postgresql://me:s3/cret@127.0.0.1/msilo")).__aenter__()

    @pytest.mark.parametrize("uri", ["udp://0.0.0.0:0", "tcp://[::]:0"])
    @pytest.mark.parametrize("trusted", [None, ()])
    async def test_others_are_let_in_only_when_it_is_said_who_they_are(
        self, uri: str, trusted: tuple[str, ...] | None
    ) -> None:
        closed = ServerConfig(listen=(UDP, uri), storage="memory:", trusted=trusted)
        with pytest.raises(SettingsError, match="can be reached by others"):
            await Server(closed).__aenter__()
        async with Server(ServerConfig(listen=(UDP, uri), storage="memory:", trusted=("192.0.2.0/24",))) as server:
            with UdpPeer() as peer:
                # --trust replaces loopback.
                peer.send(message(peer), address_of(server))
                assert await status_of(peer) == 403

    @pytest.mark.parametrize(
        ("listen", "proxy", "is_itself"),
        [
            ("udp://127.0.0.1:{}", "sip:127.0.0.1:{}", True),
            ("udp://[::1]:{}", "sip:[0:0::1]:{}", True),
            ("tcp://0.0.0.0:{}", "sip:127.0.0.1:{};transport=tcp", True),
            ("tcp://127.0.0.1:{}", "sip:127.0.0.1:{}", False),
            ("udp://127.0.0.1:{}", "sip:127.0.0.2:{}", False),
            ("udp://0.0.0.0:{}", "sip:192.0.2.9:{}", False),
            ("udp://0.0.0.0:{}", "sip:[::1]:{}", False),
        ],
    )
    async def test_it_is_not_its_own_outbound_proxy(self, listen: str, proxy: str, is_itself: bool) -> None:
        port = free_port()
        silo = SiloConfig(outbound_proxy=proxy.format(port))
        config = ServerConfig(listen=(listen.format(port),), storage="memory:", trusted=("127.0.0.0/8",), silo=silo)
        if is_itself:
            with pytest.raises(SettingsError, match="is this server itself: leave it out"):
                await Server(config).__aenter__()
        else:
            async with Server(config):
                pass

    async def test_the_route_of_the_application_decides(self) -> None:
        class Closed:
            uses_location: ClassVar[bool] = False

            def request_route(self, call: Call) -> None:
                call.reply(480, "Closed")

            def failure_route(self, call: Call) -> None:
                raise AssertionError(f"{call.method} was not relayed")

        async with Server(MEMORY, route=Closed()) as server:
            with UdpPeer() as peer:
                peer.send(message(peer), address_of(server))
                assert await status_of(peer) == 480

    async def test_dump_delivers_what_waits(self) -> None:
        async with Server(ServerConfig(listen=(UDP,), storage="memory:", role="silo", grace_s=0)) as server:
            with UdpPeer() as bob, UdpPeer() as alice:
                bob.send(register(bob), address_of(server))
                assert await status_of(bob) == 200
                alice.send(message(alice), address_of(server))
                assert await status_of(alice) == 202
                server.dump("sip:bob@example.com")
                data, _ = await bob.receive()
                assert data.startswith(b"MESSAGE sip:bob@")
                assert data.endswith(b"\r\n\r\nhello")


class TestEnding:
    async def test_an_exception_of_the_body_leaves_as_it_is(self) -> None:
        with pytest.raises(ZeroDivisionError):
            async with Server(MEMORY):
                raise ZeroDivisionError

    async def test_a_cancelled_application_ends_at_once(self) -> None:
        addresses: list[str] = []
        with anyio.move_on_after(0.05) as scope:
            async with Server(MEMORY) as server:
                addresses = server.addresses
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with Server(ServerConfig(listen=tuple(addresses), storage="memory:")):
            pass

    @pytest.mark.parametrize("has_served", [False, True])
    async def test_what_is_under_way_is_finished(self, tmp_path: Path, has_served: bool) -> None:
        served = Server(ServerConfig(listen=(UDP,), storage=f"sqlite:///{tmp_path}/x.db", grace_s=20))
        if has_served:
            async with served:
                pass
        with UdpPeer() as peer, closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as other:
            async with anyio.create_task_group() as tasks, served as server:
                address = address_of(server)
                # Somebody else writes, so that our commit has to wait.
                other.execute("BEGIN IMMEDIATE")
                peer.send(message(peer), address)
                while not server.batches["Store"].count:  # noqa: ASYNC110
                    await anyio.sleep(0.001)

                async def go_on() -> None:
                    await anyio.sleep(0.1)
                    with UdpPeer() as late:
                        late.send(message(late, 2), address)
                        assert await status_of(late) == 503
                    other.execute("ROLLBACK")

                tasks.start_soon(go_on)
            assert await status_of(peer) == 202
            assert other.execute("SELECT count(*) FROM silo").fetchone() == (1,)

    async def test_when_the_grace_is_over_the_sender_is_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        config = ServerConfig(listen=(UDP,), storage=f"sqlite:///{tmp_path}/x.db", grace_s=0.1)
        with UdpPeer() as peer, closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as other:
            async with anyio.create_task_group() as tasks:

                async def let_go() -> None:
                    await anyio.sleep(0.5)
                    other.execute("ROLLBACK")

                async with Server(config) as server:
                    other.execute("BEGIN IMMEDIATE")
                    peer.send(message(peer), address_of(server))
                    while not server.batches["Store"].count:  # noqa: ASYNC110
                        await anyio.sleep(0.001)
                    tasks.start_soon(let_go)
            assert await status_of(peer) == 503
        assert caplog.records[-1].message == "some requests were still under way after 0.1 s"

    async def test_when_the_grace_is_over_nobody_holds_what_a_phone_did_not_answer(self, tmp_path: Path) -> None:
        config = ServerConfig(listen=(UDP,), storage=f"sqlite:///{tmp_path}/x.db", grace_s=0.1)
        with UdpPeer() as peer, UdpPeer() as phone:
            async with Server(config) as server:
                peer.send(message(peer), address_of(server))
                assert await status_of(peer) == 202
                phone.send(register(phone), address_of(server))
                assert await status_of(phone) == 200
                delivered, _ = await phone.receive()
                assert delivered.startswith(b"MESSAGE ")
        with closing(sqlite3.connect(tmp_path / "x.db")) as after:
            assert after.execute("SELECT lease_node, lease_until, attempts FROM silo").fetchall() == [("", 0, 1)]

    async def test_who_cancels_the_grace_is_not_kept_waiting(self) -> None:
        with UdpPeer() as bob, UdpPeer() as alice, anyio.fail_after(5):
            with anyio.move_on_after(0.2) as scope:
                async with Server(ServerConfig(listen=(UDP,), storage="memory:", grace_s=60)) as server:
                    alice.send(message(alice), address_of(server))
                    assert await status_of(alice) == 202
                    bob.send(register(bob), address_of(server))
                    assert await status_of(bob) == 200
                    # Bob never answers, so that the delivery stays under way.
                    await bob.receive()
            assert scope.cancelled_caught

    async def test_it_can_be_entered_again_elsewhere(self) -> None:
        server = Server(MEMORY)
        for _ in range(2):
            async with server:
                with UdpPeer() as peer:
                    peer.send(message(peer), address_of(server))
                    assert await status_of(peer) == 202


class TestGarbage:
    @pytest.mark.parametrize("store", ["sqlite", "postgres"])
    async def test_no_message_leaves_a_cycle_to_the_collector(
        self, store: str, tmp_path: Path, postgres_url: str
    ) -> None:
        url = postgres_url if store == "postgres" else f"sqlite:///{tmp_path}/msilo.db"
        await create_schema(url)
        count = 60
        async with Server(ServerConfig(listen=(UDP,), storage=url, grace_s=1)) as server:
            with UdpPeer() as peer:
                # What is made once, such as prepared statements, is made first.
                for first in (0, count):
                    gc.collect()
                    gc.disable()
                    try:
                        for number in range(first, first + count):
                            peer.send(message(peer, number), address_of(server))
                            assert await status_of(peer) == 202
                        garbage = gc.collect()
                    finally:
                        gc.enable()
            assert garbage < count
