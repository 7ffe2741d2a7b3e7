"""What the tests of both figures share: a request, a response, and a user who writes down what it is told."""

from msilo_core import Config, Flow, Limits, Moment
from msilo_core.actions import Action
from msilo_core.message import Request, Response, parse_message
from msilo_core.transactions import ClientTransaction

T1_MS, T2_MS, T4_MS = 500, 4_000, 5_000
CONFIG = Config(t1_ms=T1_MS, t2_ms=T2_MS, t4_ms=T4_MS)
LIMITS = Limits()
UDP = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5071))
TCP = Flow("tcp", ("127.0.0.1", 5060), ("127.0.0.1", 5071), 1)


def at(mono_ms: int) -> Moment:
    """Return an instant."""
    return Moment(mono_ms, 1_790_000_000_000 + mono_ms)


def request(branch: str = "z9hG4bKone", method: str = "MESSAGE", extra: str = "") -> Request:
    """Return a request."""
    parsed = parse_message(
        f"{method} sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP a.example.com;branch={branch}{extra}\r\n"
        "From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c\r\n"
        f"CSeq: 1 {method}\r\n\r\n".encode()
    )
    assert isinstance(parsed, Request)
    return parsed


def response(status: int, branch: str = "z9hG4bKone", method: str = "MESSAGE") -> Response:
    """Return a response."""
    parsed = parse_message(
        f"SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch={branch}\r\n"
        "From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>;tag=2\r\nCall-ID: c\r\n"
        f"CSeq: 1 {method}\r\n\r\n".encode()
    )
    assert isinstance(parsed, Response)
    return parsed


class Notebook:
    """A user of client transactions."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []

    def answered(
        self, transaction: ClientTransaction, status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        """Write it down."""
        del transaction, now
        self.told.append((status, response is not None))
        return []
