"""The generators: what they send, and what they count."""

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

import click
import pytest

from bench import spread
from bench.load import Kind, LoadResult
from bench.requests import BODY_BYTES_MIN, Names, Requests, answer, number_in_body
from bench.spread import Traffic
from bench.wire import Address, connect
from msilo_core import Request, parse_message

Answers: TypeAlias = Callable[[bytes], list[bytes]]


def requests(*, body_bytes: int = 80) -> Requests:
    names = Names(run="0a1b2c3d", generator=3, domain="example.com")
    return Requests(names, 1, transport="udp", sent_by=b"192.0.2.1:5070", body_bytes=body_bytes)


def parsed(data: bytes) -> Request:
    request = parse_message(data)
    assert isinstance(request, Request)
    request.validate()
    return request


@pytest.mark.parametrize("body_bytes", [0, 1, BODY_BYTES_MIN - 1, BODY_BYTES_MIN, 46, 3_000])
def test_a_message(body_bytes: int) -> None:
    data = requests(body_bytes=body_bytes).message(255, 7)
    request = parsed(data)
    assert request.to.uri_text == "sip:u0a1b2c3d03-000007@example.com"
    assert request.via.branch == "z9hG4bK0a1b2c3d031000000ff"
    assert len(request.body) == body_bytes
    assert number_in_body(data) == (255 if body_bytes >= BODY_BYTES_MIN else -1)


def test_a_register() -> None:
    first, second = (parsed(requests().register(number, 7)) for number in (1, 2))
    assert first.call_id == second.call_id
    assert first.cseq.number < second.cseq.number
    assert first.via.branch != second.via.branch


def test_an_answer() -> None:
    sent = (
        b"MESSAGE sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa\r\n"
        b"v: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKb\r\nFROM : <sip:a@example.com>;tag=1\r\nt: <sip:b@example.com>\r\n"
        b"Call-ID: 1\r\nX-To: nobody\r\nCSeq: 1 MESSAGE\r\nContent-Length: 11\r\n\r\nTo: be here"
    )
    assert answer(sent) == (
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa\r\n"
        b"v: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKb\r\nFROM : <sip:a@example.com>;tag=1\r\n"
        b"t: <sip:b@example.com>;tag=phone\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
    )


def test_a_body_with_a_prefix_has_its_number_all_the_same() -> None:
    data = requests().message(255, 7)
    assert number_in_body(data.replace(b"\r\n\r\n", b"\r\n\r\n[Offline message - Sun Nov 22 23:58:32 2026] ")) == 255
    assert number_in_body(b"MESSAGE sip:bob@192.0.2.1 SIP/2.0\r\n\r\nhello") == -1
    assert number_in_body(b"MESSAGE sip:bob@192.0.2.1 SIP/2.0\r\n\r\n#hello") == -1


def test_a_stream_is_cut_into_messages() -> None:
    message, register = requests().message(1, 1), requests().register(2, 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = connect(listener.getsockname(), "tcp")
        peer, _ = listener.accept()
        with peer:
            peer.sendall(message + register + message[:-1])
            received: list[bytes] = []
            while len(received) < 2:
                received += wire.receive()
            assert received == [message, register]
            peer.sendall(message[-1:])
            assert wire.receive() == [message]
        with pytest.raises(ConnectionError):
            wire.receive()
        wire.close()


@contextmanager
def peer(answers: Answers) -> Generator[Address]:
    """A server that sends for each datagram what it is told to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address: Address = sock.getsockname()

        def serve() -> None:
            while True:
                data, remote = sock.recvfrom(65_535)
                if data == b"end":
                    return
                for reply in answers(data):
                    sock.sendto(reply, remote)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"end", address)
            thread.join()


def run(kind: Kind, target: Address, *, count: int, users: int) -> LoadResult:
    traffic = Traffic(
        kind=kind, target=target, transport="udp", run="0a1b2c3d", domain="example.com", count=count, window=4,
        users=users, body_bytes=80, processes=1,
    )  # fmt: skip
    progress: list[int] = []
    result = spread.run(traffic, progress.append)
    assert sum(progress) == count
    return result


def replied(status: str, request: bytes) -> bytes:
    return answer(request).replace(b"200 OK", status.encode(), 1)


def test_what_is_not_answered_is_sent_again() -> None:
    seen: list[bytes] = []

    def answers(request: bytes) -> list[bytes]:
        seen.append(request)
        if len(seen) == 3:
            return []
        return [replied("100 Trying", request), replied("202 Accepted", request)]

    with peer(answers) as address:
        result = run("store", address, count=10, users=10)
    assert (result.statuses, result.resent) == ({202: 10}, 1)
    assert len(result.latencies_ms["store"]) == 10
    assert seen[-1] == seen[2]


def test_no_user_has_two_messages_on_the_way_where_their_order_counts() -> None:
    held: dict[bytes, bytes] = {}

    def answers(request: bytes) -> list[bytes]:
        user = request.split(b" ", 2)[1]
        # The first window is answered backwards.
        if len(held) < 4:
            assert user not in held
            held[user] = replied("202 Accepted", request)
            return list(held.values())[::-1] if len(held) == 4 else []
        return [replied("202 Accepted", request)]

    with peer(answers) as address:
        result = run("ordered store", address, count=24, users=8)
    assert result.statuses == {202: 24}


def test_what_comes_in_disorder_or_twice_is_counted() -> None:
    def answers(request: bytes) -> list[bytes]:
        if not request.startswith(b"REGISTER"):
            return []
        order = [0, 2, 1, 3, 3, 99]
        return [replied("200 OK", request), *(requests().message(number, 0) for number in order)]

    with peer(answers) as address:
        result = run("deliver", address, count=4, users=1)
    assert (result.delivered, result.out_of_place, result.repeated, result.missing) == (4, 2, 1, 0)


def test_phones_that_miss_a_message_register_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load._REFRESH_NS", 200_000_000)
    registers: list[bytes] = []

    def answers(request: bytes) -> list[bytes]:
        if not request.startswith(b"REGISTER"):
            return []
        registers.append(request)
        return [replied("200 OK", request), requests().message(len(registers) - 1, 0)]

    with peer(answers) as address:
        result = run("deliver", address, count=2, users=1)
    assert (result.delivered, result.refreshed, result.missing) == (2, 1, 0)


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load._GIVE_UP_NS", 200_000_000)
    with peer(lambda _: []) as address, pytest.raises(click.ClickException, match="with 4 requests under way"):
        run("store", address, count=10, users=10)


def test_without_a_server_there_is_one_line() -> None:
    traffic = Traffic(
        kind="store", target=("127.0.0.1", 9), transport="tcp", run="0a1b2c3d", domain="example.com",
        count=10, window=4, users=4, body_bytes=80, processes=2,
    )  # fmt: skip
    with pytest.raises(click.ClickException, match=r"tcp://127\.0\.0\.1:9: .*Connection refused"):
        spread.run(traffic, lambda _: None)
