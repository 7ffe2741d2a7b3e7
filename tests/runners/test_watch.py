"""Waiting for a socket, again and again."""

import asyncio
import socket
from collections.abc import Generator

import anyio
import pytest

from msilo_runners.watch import watched


@pytest.fixture
def pair() -> Generator[tuple[socket.socket, socket.socket]]:
    """What is sent by the first can be read from the second."""
    sender, receiver = socket.socketpair(type=socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.setblocking(False)
        yield sender, receiver


async def test_it_waits_again_and_again(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair

    async def send() -> None:
        for number in range(20):
            sender.send(b"%d" % number)
            # Some come one by one, some while the one before is being read.
            await (anyio.lowlevel.checkpoint() if number % 3 else anyio.sleep(0.005))

    received: list[bytes] = []
    with anyio.fail_after(5), watched(receiver) as wait:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            while len(received) < 20:
                await wait()
                try:
                    while True:
                        received.append(receiver.recv(100))
                except BlockingIOError:
                    pass
    assert received == [b"%d" % number for number in range(20)]


async def test_what_is_left_unread_is_seen_by_the_next_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    sender.send(b"one")
    sender.send(b"two")
    with anyio.fail_after(5), watched(receiver) as wait:
        await wait()
        assert receiver.recv(100) == b"one"
        await wait()
        assert receiver.recv(100) == b"two"


async def test_a_wait_that_is_cancelled_harms_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    with watched(receiver) as wait:
        with anyio.move_on_after(0.01) as scope:
            await wait()
        assert scope.cancelled_caught
        sender.send(b"one")
        with anyio.fail_after(5):
            await wait()
    assert receiver.recv(100) == b"one"


@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})])
async def test_the_loop_does_not_spin_where_nobody_reads(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    loop = asyncio.get_running_loop()
    with anyio.fail_after(5), watched(receiver) as wait:
        sender.send(b"one")
        await wait()
        await anyio.sleep(0.01)
        assert not loop.remove_reader(receiver)
        await wait()
        assert receiver.recv(100) == b"one"
    assert not loop.remove_reader(receiver)
