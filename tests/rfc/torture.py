"""What the catalogues of torture messages have done with each: taken apart, answered, kept, delivered, relayed."""

import re

import pytest

from msilo_core.actions import Message
from msilo_core.errors import ParseError, PeerError
from msilo_core.fields import split_first
from msilo_core.framing import Malformed, frame_datagram
from msilo_core.message import Request, Response, parse_message, tokenise
from msilo_core.uri import Aor, parse_uri
from tests.core.wire import crlf, framed
from tests.core.world import ALICE, BOB, World, finished, status_of, tcp

__all__ = [
    "ALLOWED",
    "answered",
    "answered_datagram",
    "bound",
    "dropped",
    "exchanged",
    "kept",
    "malformed",
    "of_list",
]

ALLOWED = {"MESSAGE", "REGISTER", "OPTIONS", "CANCEL", "ACK"}
"""The methods in the Allow of a 405, a 501 and a 200 to OPTIONS."""

# What is for the hop, or says how long the body is.
_OF_THE_HOP = {"via", "max-forwards", "max-breadth", "route", "record-route", "content-length"}
# What the silo writes out anew: the same value, the name and its folds as we spell them.
_WRITTEN_ANEW = {"from", "to", "call-id", "cseq", "content-type", "date"}

_PROBE = crlf("""
    OPTIONS sip:example.com SIP/2.0
    Via: SIP/2.0/TCP 127.0.0.1:5071;branch=z9hG4bKprobe
    From: <sip:alice@example.com>;tag=probe
    To: <sip:example.com>
    Call-ID: probe
    CSeq: 1 OPTIONS
    Content-Length: 0

    """)


def malformed(data: bytes, error: type[PeerError] = ParseError, *, fatal: bool = False) -> Malformed:
    """Return what is wrong with a message, in a datagram and on a stream in every cut.

    Args:
        error: its class.
        fatal: whether a stream cannot go on behind it.
    """
    with pytest.raises(error) as raised:
        parse_message(data)
    item = frame_datagram(data)
    assert isinstance(item, Malformed)
    assert (type(item.error), str(item.error)) == (error, str(raised.value))
    first = framed(data)[0]
    assert isinstance(first, Malformed)
    assert (type(first.error), first.fatal) == (error, fatal)
    return item


def answered(data: bytes, status: str, *, closes: bool = False) -> Response:
    """Return what :func:`answered_datagram` does, after making sure that a stream is answered with the same octets.

    Args:
        status: as for :func:`answered_datagram`.
        closes: whether a stream is closed behind it; otherwise the next request on it is answered.
    """
    response = answered_datagram(data, status)
    for pieces in _whole_and_single(data):
        assert _streamed(pieces) == ([response.serialise()], closes)
    return response


def answered_datagram(data: bytes, status: str) -> Response:
    """Return what a server answers to a datagram that has neither bindings nor messages.

    That it answers this request is checked: "The From field of the response MUST equal the From header field of the
    request", and so on (RFC 3261 section 8.2.6.2), also where these values are malformed.

    Args:
        status: begin of the status line behind the version, as ``400 Bad Request``.
    """
    world = World()
    (octets,) = world.datagram(data)
    request, response = tokenise(data), tokenise(octets)
    assert response.head.start_line.removeprefix("SIP/2.0 ")[: len(status)] == status
    assert isinstance(request, Request)
    assert isinstance(response, Response)
    assert response.body == b""
    for key in ("from", "call-id", "cseq"):
        assert response.get_all(key) == request.get_all(key)[:1]
    _check_to(request.get("to"), response.get("to"))
    ours, theirs = response.get_all("via"), request.get_all("via")
    assert ours[1:] == theirs[1:]
    assert split_first(ours[0])[1] == split_first(theirs[0])[1]
    # Section 18.2.1, and RFC 3581 section 4: the answer goes to where the request came from.
    via = response.via
    assert (via.transport, via.host, via.port) == _sent_by(split_first(theirs[0])[0])
    assert via.received == ALICE[0]
    port = ALICE[1] if via.rport is not None else via.port or 5060
    assert world.sent[-1].flow.remote == (ALICE[0], port)
    return response


def dropped(data: bytes, *, closes: bool = False) -> None:
    """Make sure that nobody is answered.

    Args:
        closes: whether a stream is closed behind it; otherwise the next request on it is answered.
    """
    assert World().datagram(data) == []
    for pieces in _whole_and_single(data):
        assert _streamed(pieces) == ([], closes)


def exchanged(data: bytes, method: str = "MESSAGE") -> bytes:
    """Return the same request with another method in its start-line and in CSeq."""
    old, space, rest = data.partition(b" ")
    rest, count = re.subn(
        rb"(?im)^(CSeq[ \t]*:\s*[0-9]+\s+)" + re.escape(old) + rb"(?=\r\n)", rb"\g<1>" + method.encode(), rest
    )
    assert count == 1
    return method.encode() + space + rest


def kept(data: bytes, owner: str) -> Message:
    """Send a MESSAGE to somebody who is away; return the row that keeps it.

    The answer is 202. The phone that registers then gets it as it was sent, and so does one that is there already:
    "Proxies would forward this header field unchanged" (RFC 4475 section 3.1.1.1), and so of all of them.

    Args:
        owner: URI of the address of record whose inbox it goes to.
    """
    request = parse_message(data)
    # On a stream a Content-Length is mandatory.
    (answered_datagram if request.content_length is None else answered)(data, "202 Accepted")
    world = World()
    world.datagram(data)
    (row,) = finished(world.store.list(owner=owner))
    assert (row.body, row.ctype, row.date_hdr) == (request.body, request.content_type, request.get("date") or "")
    assert (row.from_hdr, row.to_hdr) == (request.get("from"), request.get("to"))
    assert (row.callid, row.cseq, row.from_tag) == (request.call_id, request.cseq.number, request.from_.tag)
    assert (row.src_addr, row.dst_addr) == (request.from_.uri_text, request.to.uri_text)
    assert row.owner == parse_uri(owner).aor()

    phone = _registration(row.owner, "<sip:phone@127.0.0.1:5072>")
    ok, delivered = world.datagram(phone, BOB)
    assert status_of(ok) == 200
    _check_delivered(request, delivered)
    present = World()
    present.datagram(phone, BOB)
    (relayed,) = present.datagram(data)
    _check_relayed(request, relayed)
    return row


def bound(data: bytes) -> list[str]:
    """Return the values of Contact that a registrar answers to a REGISTER, and to a later fetch the same."""
    answer = answered(data, "200 OK")
    contacts = of_list(answer, "contact")
    request = parse_message(data)
    world = World()
    world.datagram(data)
    (octets,) = world.datagram(_registration(request.to.uri.aor()))
    assert of_list(parse_message(octets), "contact") == contacts
    return contacts


def of_list(message: Request | Response, key: str) -> list[str]:
    """Return the elements of a comma-separated header, of which none hides a comma."""
    return [element.strip() for value in message.get_all(key) for element in value.split(",")]


def _registration(owner: Aor, contact: str = "") -> bytes:
    """Return a REGISTER, for a fetch one without Contact."""
    line = f"Contact: {contact}\r\n" if contact else ""
    return (
        f"REGISTER sip:{owner.domain} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bKphone\r\n"
        f"From: <{owner}>;tag=phone\r\nTo: <{owner}>\r\nCall-ID: phone\r\nCSeq: 1 REGISTER\r\n{line}\r\n"
    ).encode()


def _whole_and_single(data: bytes) -> list[list[bytes]]:
    return [[data], [data[at : at + 1] for at in range(len(data))]]


def _streamed(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """Return what a server answers on a stream, and whether it closed it; if not, it answers the next request too."""
    world, flow = World(), tcp(ALICE)
    answers: list[bytes] = []
    for piece in [*pieces, _PROBE]:
        assert all(send.flow == flow for send in world.sent)
        if world.closed:
            assert world.closed == [flow]
            return answers, True
        answers += world.stream(piece, flow)
    assert status_of(answers.pop()) == 200
    return answers, False


def _sent_by(via: str) -> tuple[str, str, int | None]:
    """Return transport, host and port of a Via, whatever its parameters are."""
    match = re.match(r"\S+?\s*/\s*\S+?\s*/\s*(\w+)\s+(\[.*?\]|[\w.\-]+)(?::(\d+))?", via)
    assert match is not None
    return match[1], match[2], None if match[3] is None else int(match[3])


def _check_to(asked: str | None, answered: str | None) -> None:
    if asked is None or re.search(r";\s*tag\s*=", asked):
        assert answered == asked
    else:
        # "... the UAS MUST add a tag to the To header field in the response".
        assert answered is not None
        assert re.fullmatch(re.escape(asked) + r";tag=[A-Za-z0-9]+", answered)


def _check_delivered(request: Request | Response, octets: bytes) -> None:
    message = parse_message(octets)
    assert isinstance(message, Request)
    assert message.body == request.body
    assert (message.call_id, message.cseq) == (request.call_id, request.cseq)
    assert message.get("to") == request.get("to")
    asked_from, sent_from = request.get("from"), message.get("from")
    assert asked_from is not None
    assert sent_from is not None
    if request.from_.tag:
        assert sent_from == asked_from
    else:
        assert re.fullmatch(re.escape(asked_from) + r";tag=[A-Za-z0-9]+", sent_from)
    assert message.content_type == request.content_type
    if "date" in request.head.first:
        assert message.get("date") == request.get("date")
    passed_over = _OF_THE_HOP | _WRITTEN_ANEW
    assert _lines(message, passed_over) == _lines(request, passed_over)


def _check_relayed(request: Request | Response, octets: bytes) -> None:
    message = parse_message(octets)
    assert message.body == request.body
    assert _lines(message, _OF_THE_HOP) == _lines(request, _OF_THE_HOP)
    assert message.vias[2:] == request.vias[1:]


def _lines(message: Request | Response, passed_over: set[str]) -> list[str]:
    return [line for key, line in message.raw_lines if key not in passed_over]
