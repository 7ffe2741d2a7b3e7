"""An engine, a store in memory and a clock that only moves when told: whole scenarios without I/O.

Requests and responses are literal octets; what the engine sends is kept as octets, by the address it goes to.
"""

import random
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from msilo_core import Config, Engine, Flow, Limits, Moment
from msilo_core.actions import (
    Action,
    Bind,
    CloseFlow,
    Completion,
    Dropped,
    Dump,
    Expire,
    FindUser,
    LookUp,
    Remind,
    Renew,
    Retry,
    Send,
    Settle,
    StorageFailed,
    Store,
    Unbind,
)
from msilo_core.flow import Address
from msilo_core.route import Route
from msilo_storage.memory import MemoryStorage

T = TypeVar("T")

SERVER: Address = ("127.0.0.1", 5060)
ALICE: Address = ("127.0.0.1", 5071)
BOB: Address = ("127.0.0.1", 5072)

EPOCH_MS = 1_790_000_000_000

# When a server began for which nothing is the repeat of what a sender began with a server before it.
LONG_AGO = Moment(-60_000, EPOCH_MS - 60_000)


def udp(remote: Address) -> Flow:
    """Return the flow of datagrams from `remote`."""
    return Flow("udp", SERVER, remote)


def tcp(remote: Address, token: int = 1) -> Flow:
    """Return a stream from `remote`."""
    return Flow("tcp", SERVER, remote, token)


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that waits for nothing, as those of the memory store."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the memory store waited")


class World:
    """See the module."""

    def __init__(
        self,
        config: Config | None = None,
        limits: Limits | None = None,
        route: Route | None = None,
        seed: int = 1,
        *,
        began: Moment | None = None,
    ) -> None:
        self.mono_ms = 0
        self.store = MemoryStorage(lambda: self.now.unix_ms)
        self.sent: list[Send] = []
        self.closed: list[Flow] = []
        self.held: deque[Any] = deque()
        self.hold: set[type] = set()
        self.failing = False
        self.limits = limits if limits is not None else Limits()
        self.engine = Engine(
            config if config is not None else Config(),
            self.limits,
            entropy=random.Random(seed),
            now=self.now if began is None else began,
            route=route,
        )

    @property
    def now(self) -> Moment:
        return Moment(self.mono_ms, EPOCH_MS + self.mono_ms)

    def datagram(self, data: bytes, remote: Address = ALICE) -> list[bytes]:
        """Deliver a datagram; return what the engine then sends to anybody."""
        return self.carry_out(self.engine.receive_datagram(data, udp(remote), self.now))

    def stream(self, data: bytes, flow: Flow) -> list[bytes]:
        """Deliver octets of a stream; return what the engine then sends to anybody."""
        return self.carry_out(self.engine.receive_stream(data, flow, self.now))

    def carry_out(self, actions: list[Action]) -> list[bytes]:
        """Do what the engine wants, and what it wants then, until it wants nothing more."""
        first = len(self.sent)
        todo = deque(actions)
        while todo:
            action = todo.popleft()
            if isinstance(action, Send):
                self.sent.append(action)
            elif isinstance(action, CloseFlow):
                self.closed.append(action.flow)
            elif isinstance(action, Dropped):
                pass
            elif type(action) in self.hold:
                self.held.append(action)
            else:
                todo.extend(self.engine.complete(self.perform(action), self.now))
        return [send.data for send in self.sent[first:]]

    def perform(self, action: Any) -> Completion:
        """Let the store carry out one action."""
        if self.failing:
            return StorageFailed(action.token, "the test says so")
        match action:
            case Store():
                return finished(self.store.append([action]))[0]
            case LookUp():
                return finished(self.store.look_up([action]))[0]
            case FindUser():
                return finished(self.store.find_users([action]))[0]
            case Bind():
                return finished(self.store.bind([action]))[0]
            case Dump():
                return finished(self.store.dump([action]))[0]
            case Settle():
                return finished(self.store.settle([action]))[0]
            case Expire():
                return finished(self.store.expire([action]))[0]
            case Remind():
                return finished(self.store.remind([action]))[0]
            case Retry():
                return finished(self.store.retry([action]))[0]
            case Renew():
                return finished(self.store.renew([action]))[0]
            case Unbind():
                return finished(self.store.unbind([action]))[0]
            case _:
                raise AssertionError(action)

    def let_go(self) -> list[bytes]:
        """Carry out what was held, in order."""
        self.hold.clear()
        first = len(self.sent)
        while self.held:
            action = self.held.popleft()
            self.carry_out(self.engine.complete(self.perform(action), self.now))
        return [send.data for send in self.sent[first:]]

    def pass_time(self, ms: int) -> list[bytes]:
        """Let `ms` pass, with every deadline on the way; return what the engine sends, but for 100s."""
        return [send.data for send in self.timed(ms) if status_of(send.data) != 100]

    def timed(self, ms: int) -> list[Send]:
        """Let `ms` pass, with every deadline on the way; return all that the engine sends."""
        first = len(self.sent)
        end_ms = self.mono_ms + ms
        for _ in range(100_000):
            at_ms = self.engine.next_timeout()
            if at_ms is None or at_ms > end_ms:
                break
            self.mono_ms = max(self.mono_ms, at_ms)
            self.carry_out(self.engine.handle_timeout(self.now))
        else:
            raise AssertionError("deadlines without end")
        self.mono_ms = end_ms
        return self.sent[first:]

    def waiting(self, owner: str = "sip:bob@example.com") -> list[bytes]:
        """Return the bodies that wait in an inbox, in order."""
        return [message.body for message in finished(self.store.list(owner=owner))]

    def dead(self, owner: str = "sip:bob@example.com") -> list[bytes]:
        """Return the bodies that were set aside, in order."""
        return [message.body for message in finished(self.store.list(owner=owner, dead=True))]


def message(
    body: bytes = b"hello",
    *,
    number: int = 1,
    to: str = "bob",
    headers: str = "",
    transport: str = "UDP",
    sender: Address = ALICE,
) -> bytes:
    """Return a MESSAGE from alice; another `number`, another message."""
    return (
        f"MESSAGE sip:{to}@example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {sender[0]}:{sender[1]};branch=z9hG4bKa{number}\r\n"
        "Max-Forwards: 70\r\n"
        f'From: "Alice" <sip:alice@example.com>;tag=f{number}\r\n'
        f"To: <sip:{to}@example.com>\r\n"
        f"Call-ID: call{number}@alice.example.com\r\n"
        "CSeq: 7 MESSAGE\r\n"
        f"{headers}"
        "Content-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def register(
    user: str = "bob",
    contact: str = "<sip:bob@127.0.0.1:5072>",
    *,
    cseq: int = 1,
    headers: str = "",
    transport: str = "UDP",
    sender: Address = BOB,
    expires: str = "Expires: 3600\r\n",
) -> bytes:
    """Return a REGISTER."""
    contact_line = f"Contact: {contact}\r\n" if contact else ""
    return (
        "REGISTER sip:example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {sender[0]}:{sender[1]};branch=z9hG4bKr{user}{cseq}\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:{user}@example.com>;tag=r\r\n"
        f"To: <sip:{user}@example.com>\r\n"
        f"Call-ID: reg-{user}\r\n"
        f"CSeq: {cseq} REGISTER\r\n"
        f"{contact_line}{expires}{headers}"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def answer(request: bytes, status: str = "200 OK") -> bytes:
    """Return a phone's response to a request that the engine sent."""
    head = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [line for line in head if line.split(b":")[0].lower() in (b"via", b"from", b"to", b"call-id", b"cseq")]
    lines = [b"SIP/2.0 " + status.encode(), *kept, b"Content-Length: 0"]
    return b"\r\n".join(line + b";tag=phone" if line.startswith(b"To:") else line for line in lines) + b"\r\n\r\n"


def status_of(response: bytes) -> int:
    """Return the status of a response, or 0 for a request."""
    return int(response[8:11]) if response.startswith(b"SIP/2.0 ") else 0


def body_of(data: bytes) -> bytes:
    """Return the octets behind the empty line."""
    return data.partition(b"\r\n\r\n")[2]


def header(data: bytes, name: str) -> str:
    """Return the value of the first header line of that name, or an empty string."""
    for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.decode().lower() == name.lower():
            return value.decode().strip()
    return ""
