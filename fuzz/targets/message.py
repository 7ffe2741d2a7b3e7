"""Whole messages: those that parse are what they were when they are written, answered and passed on."""

import contextlib
import inspect
from typing import Final

from fuzz.octets import ROOMY
from msilo_core import PeerError, parse_message
from msilo_core.compose import build_response, forward, relay_response
from msilo_core.framing import Malformed, frame_datagram
from msilo_core.headers import Headers
from msilo_core.message import Request, Response

__all__ = ["message"]

_VIEWS: Final = [name for name, value in inspect.getmembers(Headers) if isinstance(value, property)]
_OUR_VIA: Final = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport"
_SEEN: Final = ";received=192.0.2.7;rport=5071"


def message(data: bytes) -> None:
    """A message parses or is refused; one that parses keeps what it says, whatever is done with it."""
    try:
        parsed = parse_message(data)
    except PeerError as error:
        _answer_malformed(data, error)
        return
    assert frame_datagram(data) == parsed, data
    assert parse_message(parsed.serialise()) == parsed, data
    for view in _VIEWS:
        with contextlib.suppress(PeerError):
            getattr(parsed, view)
    if isinstance(parsed, Request):
        _answer(parsed)
        _pass_on(parsed)
    else:
        _pass_back(parsed)


def _answer_malformed(data: bytes, error: PeerError) -> None:
    """What is refused can be answered if it was a request and says by whom it came."""
    framed = frame_datagram(data)
    if not isinstance(framed, Malformed):
        # CRLFs are no message, and no fault either.
        assert not data.strip(b"\r\n"), data
        return
    assert str(framed.error) == str(error), data
    if isinstance(framed.message, Request):
        with contextlib.suppress(PeerError):
            build_response(framed.message, error.status_hint, "Refused", to_tag="t", via_suffix=_SEEN)


def _answer(request: Request) -> None:
    """RFC 3261 section 8.2.6.2: From, Call-ID, CSeq and the Via fields equal those of the request."""
    response = parse_message(build_response(request, 200, "OK", to_tag="t", via_suffix=_SEEN), ROOMY)
    assert isinstance(response, Response)
    assert response.get("from") == request.get("from")
    assert (response.call_id, response.cseq, response.via.branch) == (request.call_id, request.cseq, request.via.branch)
    assert response.to.tag == (request.to.tag or "t")
    assert response.get_all("via")[1:] == request.get_all("via")[1:]


def _pass_on(request: Request) -> None:
    """RFC 3261 section 16.6: our Via is on top of the others; the answer finds back through both (section 16.7)."""
    octets = forward(
        request, request_uri="sip:bob@192.0.2.4", via=_OUR_VIA, counts={"Max-Forwards": 69}, via_suffix=_SEEN
    )
    passed_on = parse_message(octets, ROOMY)
    assert isinstance(passed_on, Request)
    assert passed_on.get_all("via")[0] == _OUR_VIA
    assert len(passed_on.get_all("via")) == len(request.get_all("via")) + 1
    assert passed_on.body == request.body
    response = parse_message(build_response(passed_on, 200, "OK", to_tag="t"), ROOMY)
    assert isinstance(response, Response)
    passed_back = parse_message(relay_response(response, below=request.via), ROOMY)
    assert (passed_back.via.branch, passed_back.via.sent_by) == (request.via.branch, request.via.sent_by)


def _pass_back(response: Response) -> None:
    """RFC 3261 section 16.7 step 9: without the topmost Via, where there is another one."""
    with contextlib.suppress(PeerError):
        relayed = parse_message(relay_response(response), ROOMY)
        assert (relayed.call_id, relayed.cseq, relayed.body) == (response.call_id, response.cseq, response.body)
