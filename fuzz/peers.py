"""The peers of a story: who they are, and the well-formed messages that they write."""

from typing import Final

from msilo_core.digest import answer, choose
from msilo_core.fields import Challenge
from msilo_core.flow import Address, Flow
from msilo_core.message import Request, Response
from msilo_core.uri import Aor

__all__ = [
    "OUTBOUND",
    "PASSWORD",
    "PEERS",
    "PROXY",
    "SERVER",
    "USERS",
    "arrival_of",
    "challenges_of",
    "come_back",
    "message",
    "register",
    "response_to",
]

SERVER: Final[Address] = ("127.0.0.1", 5060)

PROXY: Final[Address] = ("127.0.0.9", 5060)
"""Where everything for other domains goes, if it goes anywhere."""

OUTBOUND: Final[Address] = ("127.0.0.8", 5060)
"""Where all that the silo sends goes, if not to the owner's contacts."""

PEERS: Final = (
    Flow("udp", SERVER, ("127.0.0.1", 5071)),
    Flow("udp", SERVER, ("127.0.0.2", 5072)),
    Flow("udp", SERVER, ("192.0.2.3", 5073)),
    Flow("tcp", SERVER, ("127.0.0.4", 5074), 1),
    Flow("tcp", SERVER, ("127.0.0.4", 5075), 2),
    Flow("tcp", SERVER, ("192.0.2.6", 5076), 3),
)
"""Two that are trusted and one that is not, by datagrams; then the same by streams."""

USERS: Final = tuple(Aor(name, "example.com") for name in ("alice", "bob", "carol"))
PASSWORD: Final = "secret"


def message(peer: Flow, sender: Aor, owner: Aor, number: int, text: str, challenges: list[Challenge]) -> bytes:
    """Return a MESSAGE; `text` is header lines of its own, and after an empty one the body.

    Args:
        peer: by whom it goes.
        sender: From.
        owner: To and Request-URI.
        number: tells it from others of the same sender.
        text: lines end in a line feed.
        challenges: what is answered in it, if anything.
    """
    headers, _, body = text.partition("\n\n")
    return _request(peer, "MESSAGE", str(owner), sender, owner, number, headers, body, challenges)


def register(peer: Flow, owner: Aor, number: int, text: str, challenges: list[Challenge]) -> bytes:
    """Return a REGISTER; `text` is header lines of its own, as Contact and Expires."""
    return _request(peer, "REGISTER", f"sip:{owner.domain}", owner, owner, number, text, "", challenges)


def arrival_of(owner: Aor, now_s: int) -> list[tuple[Flow, bytes]]:
    """Return what lets in all that waits: the owner leaves all devices, and comes back with one that just started."""
    flow = PEERS[0]
    leaving = register(flow, owner, 1, "Contact: *\nExpires: 0", [])
    coming = register(flow, owner, 2, f"Contact: <sip:{owner.username}@{flow.remote[0]}:5090>", [])
    return [(flow, octets.replace(b"Call-ID: R", b"Call-ID: %d-" % now_s)) for octets in (leaving, coming)]


def response_to(request: Request, status_line: str, text: str) -> bytes:
    """Return a phone's response to a request of ours: ``200 OK``, and header lines of its own.

    Via lines among them stand in place of those that the request had below the topmost.
    """
    head = [f"SIP/2.0 {status_line or '200 OK'}"]
    topmost, *others = (f"Via: {value}" for value in request.get_all("via"))
    lines = _lines(text)
    vias = [line for line in lines if line.lower().startswith("via:")]
    head += [topmost, *(vias or others), *(line for line in lines if line not in vias)]
    head += [f"{name}: {request.get(name)}" for name in ("from", "call-id", "cseq")]
    tag = "" if request.to.tag else ";tag=phone"
    return _octets([*head, f"To: {request.get('to')}{tag}"], b"")


def come_back(request: Request, flow: Flow) -> bytes:
    """Return a request of ours as a proxy at the other end of a flow sends it back."""
    host, port = flow.remote
    via = f"Via: SIP/2.0/{flow.transport.upper()} {host}:{port};branch={request.via.branch}-back;rport"
    lines = [line for key, line in request.raw_lines if key not in ("route", "content-length")]
    return _octets([f"MESSAGE {request.request_uri} SIP/2.0", via, *lines], request.body)


def challenges_of(response: Response) -> list[Challenge]:
    """Return the challenges of a 401 or 407."""
    return [*response.www_authenticate, *response.proxy_authenticate]


def _request(
    peer: Flow,
    method: str,
    uri: str,
    sender: Aor,
    owner: Aor,
    number: int,
    text: str,
    body: str,
    challenges: list[Challenge],
) -> bytes:
    host, port = peer.remote
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{peer.transport.upper()} {host}:{port};branch=z9hG4bK{method[0]}{sender.username}{number};rport",
        f"From: <{sender}>;tag=f{number}",
        f"To: <{owner}>",
        f"Call-ID: {method[0]}{sender.username}",
        f"CSeq: {number} {method}",
        *_lines(text),
    ]
    octets = body.encode("utf-8", "surrogateescape")
    name = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
    for challenge in choose(challenges):
        credentials = answer(
            challenge, sender.username, PASSWORD, method=method, uri=uri, body=octets, cnonce="c", nc=number
        )
        lines.append(f"{name}: {credentials}")
    return _octets(lines, octets)


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def _octets(lines: list[str], body: bytes) -> bytes:
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}"])
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body
