"""Octets that go out: requests of ours, responses, and what a proxy passes on.

A header that is passed on stays octet by octet; only what RFC 3261 section 16.6 names is changed. No text may bring a
line of its own: what comes out of a message holds no line break, and what is put beside it is looked at.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from msilo_core.errors import LocalError, ParseError
from msilo_core.fields import Via, split_first
from msilo_core.head import HEAD_END, encode_head
from msilo_core.headers import topmost_via
from msilo_core.message import Request, Response

__all__ = ["build_request", "build_response", "forward", "relay_response"]


def build_request(method: str, request_uri: str, headers: Sequence[tuple[str, str]], body: bytes = b"") -> bytes:
    """Return a request of our own; Content-Length is added.

    Args:
        headers: names and values in their order, Via first.

    Raises:
        LocalError: a text holds a line break, or what cannot be encoded.
    """
    _refuse_line_breaks(f"{method}{request_uri}")
    text = f"{method} {request_uri} SIP/2.0\r\n{_lines(headers)}Content-Length: {len(body)}\r\n\r\n"
    return _encoded(text) + body


def build_response(
    request: Request,
    status: int,
    reason: str,
    *,
    to_tag: str = "",
    via_suffix: str = "",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """Return the response to a request (RFC 3261 section 8.2.6); Content-Length is added.

    The request need not be valid: of From, To, Call-ID and CSeq, what is there is copied, whatever it says.

    Args:
        to_tag: added to a To without tag; empty adds none, as for 100.
        via_suffix: parameters for the topmost Via, such as ``;received=192.0.2.1;rport=5060``; those of the
            same names that the request brought go. With none the Via is copied, whatever it says.
        headers: further names and values.

    Raises:
        ParseError: the topmost Via is missing, or is malformed and was to be completed: nobody could be answered.
        LocalError: a text holds a line break, or what cannot be encoded.
    """
    _refuse_line_breaks(f"{reason}{to_tag}{via_suffix}")
    head = request.head
    first = head.first
    vias = f"Via: {_completed_via(request, via_suffix)}\r\n"
    if "via" in head.repeated:
        vias += "".join([f"Via: {value}\r\n" for value in head.values("via")[1:]])
    tag = f";tag={to_tag}" if to_tag and not _has_tag(request) else ""
    try:
        copied = (
            f"From: {first['from']}\r\nTo: {first['to']}{tag}\r\n"
            f"Call-ID: {first['call-id']}\r\nCSeq: {first['cseq']}\r\n"
        )
    except KeyError:
        there = [(name, key) for name, key in _COPIED if key in first]
        copied = "".join([f"{name}: {first[key]}{tag if key == 'to' else ''}\r\n" for name, key in there])
    added = _lines(headers) if headers else ""
    text = f"SIP/2.0 {status} {reason}\r\n{vias}{copied}{added}Content-Length: {len(body)}\r\n\r\n"
    return _encoded(text) + body


def forward(
    request: Request,
    *,
    request_uri: str,
    via: str,
    counts: Mapping[str, int],
    drop: Collection[str] = (),
    drop_lines: Collection[str] = (),
    via_suffix: str = "",
    route: str = "",
) -> bytes:
    """Return a request as a proxy passes it on (RFC 3261 section 16.6).

    What is not named here stays octet by octet and in its order. A Content-Length that the request did not
    have is added, since it may go on by a stream.

    Args:
        request_uri: the new Request-URI.
        via: value of the Via line that is put on top.
        counts: new values of headers that hold one number, as Max-Forwards; added if there were none.
        drop: keys of headers that are left out.
        drop_lines: header lines as received that are left out.
        via_suffix: parameters for the Via that was topmost, as in :func:`build_response`.
        route: value of a Route line that is put below our Via; empty adds none.

    Raises:
        ParseError: the topmost Via is missing or malformed.
        LocalError: a text holds a line break, or what cannot be encoded.
    """
    _refuse_line_breaks(f"{request_uri}{via}{via_suffix}{route}")
    lines = [f"{request.method} {request_uri} SIP/2.0", f"Via: {via}"]
    if route:
        lines.append(f"Route: {route}")
    replaced = {name.lower(): f"{name}: {count}" for name, count in counts.items()}
    if via_suffix:
        replaced["via"] = f"Via: {_completed_via(request, via_suffix)}"
    for key, line in request.head.items():
        if key not in drop and line not in drop_lines:
            lines.append(replaced.pop(key, line))
    replaced.pop("via", None)
    lines += replaced.values()
    if "content-length" not in request.head.first:
        lines.append(f"Content-Length: {len(request.body)}")
    return _encoded("\r\n".join(lines)) + HEAD_END + request.body


def relay_response(
    response: Response, added: Sequence[str] = (), drop: Collection[str] = (), *, below: Via | None = None
) -> bytes:
    """Return a response as a proxy passes it on (RFC 3261 section 16.7): without the topmost Via.

    Everything but the line of that Via stays octet by octet.

    Args:
        below: the topmost Via of the request as it came, whose sender would not know an answer to another; None if that
            does not matter.
        added: header lines of other responses, folds included, to put behind its own.
        drop: keys of headers that are left out.

    Raises:
        ParseError: there is no second Via, so the response is for us, or it is not `below`; or the topmost line is
            malformed.
    """
    head = response.head
    rest = split_first(head.first.get("via", ""))[1]
    if not rest and head.keys.count("via") < 2:
        raise ParseError("a second Via", head.first.get("via", ""))
    if below is not None:
        second = topmost_via(rest or head.values("via")[1])
        if (second.branch, second.sent_by) != (below.branch, below.sent_by):
            raise ParseError("the Via of the request", str(second))
    lines = head.lines
    topmost = head.keys.index("via")
    lines[topmost] = f"Via: {rest}"
    kept = [
        line
        for at, (key, line) in enumerate(zip(head.keys, lines, strict=True))
        if key not in drop and (rest or at != topmost)
    ]
    return encode_head("\r\n".join([head.start_line, *kept, *added])) + HEAD_END + response.body


_COPIED: Final = (("From", "from"), ("To", "to"), ("Call-ID", "call-id"), ("CSeq", "cseq"))
_TAG: Final = re.compile(r";[ \t]*+tag[ \t]*+=", re.ASCII | re.IGNORECASE)


def _lines(headers: Sequence[tuple[str, str]]) -> str:
    """Return the lines of headers; no value may bring one more."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if text.count("\r") != len(headers) or text.count("\n") != len(headers):
        raise LocalError(f"a line break in a value of {text[:64]!r}")
    return text


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalError(f"text that is no UTF-8: {error}") from error


def _refuse_line_breaks(text: str) -> None:
    if "\r" in text or "\n" in text:
        raise LocalError(f"a line break in {text[:64]!r}")


def _completed_via(request: Request, suffix: str) -> str:
    """Return the first Via line of a request, the topmost via-parm in it completed."""
    line = request.get("via")
    if line is None:
        raise ParseError("a via header")
    if not suffix:
        return line
    via = request.via
    if "," not in line:
        return line.removesuffix(via.params) + via.completed(suffix)
    topmost, rest = split_first(line)
    topmost = topmost.removesuffix(via.params) + via.completed(suffix)
    return f"{topmost}, {rest}" if rest else topmost


def _has_tag(request: Request) -> bool:
    """Say whether To has a tag; of a To that cannot be parsed, whether it looks so."""
    try:
        return bool(request.to.tag)
    except ParseError:
        value = request.head.first.get("to", "")
        return _TAG.search(value, value.rfind(">") + 1) is not None
