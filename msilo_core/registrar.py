"""What a REGISTER does to the bindings of its address of record (RFC 3261 section 10.3, steps 6 to 8).

A pure function of the bindings there are and the change that is asked for. A store calls it inside the transaction
that reads the ones and writes the other, so that two servers cannot tear one address of record apart.
"""

import re

import msgspec

from msilo_core.actions import Bind, Binding
from msilo_core.clock import Moment
from msilo_core.config import Config
from msilo_core.errors import ParseError, PeerError
from msilo_core.fields import STAR, Contact, format_date, split_list
from msilo_core.fields.numbers import DELTA_SECONDS_MAX
from msilo_core.flow import Flow
from msilo_core.head import encode_head
from msilo_core.limits import Limits
from msilo_core.message import Request
from msilo_core.uri import SipUri, parse_uri

__all__ = [
    "Change",
    "IntervalTooBrief",
    "PathNotSupported",
    "Rebinding",
    "Rejection",
    "preferred",
    "rebind",
    "register_of",
    "response_headers",
]

_HOUR_S = 3600

# The length of a contact is looked after where the REGISTER is read.
_UNBOUNDED = Limits(uri_bytes_max=2**31 - 1)

# One parameter with its semicolon; a quoted string in it may hold semicolons.
_PARAM = re.compile(r';[^;"]*(?:"(?:[^"\\]|\\.)*"[^;"]*)*')


class IntervalTooBrief(PeerError):
    """A binding shorter than the registrar takes (RFC 3261 section 10.3 step 7)."""

    status_hint = 423


class PathNotSupported(PeerError):
    """A proxy put a Path into the REGISTER of a user agent that does not support it (RFC 3327 section 5.3)."""

    status_hint = 420

    def __init__(self) -> None:
        super().__init__("a Path that the user agent does not know of")


class Change(msgspec.Struct, frozen=True, gc=False):
    """What a REGISTER asks for; see :class:`msilo_core.actions.Bind`.

    Attributes:
        path: value of Path to return in the 200, or empty.
    """

    callid: str
    cseq: int
    contacts: tuple[Binding, ...]
    remove_all: bool
    path: str = ""


def register_of(request: Request, flow: Flow, config: Config, now: Moment) -> Change:
    """Read a REGISTER (RFC 3261 section 10.3).

    Args:
        request: a validated REGISTER.
        flow: the flow that it came by.
        config: bounds of the expiry.
        now: arrival.

    Raises:
        ParseError: a Contact or a Path is not one, or `*` stands with anything but ``Expires: 0``.
        IntervalTooBrief: a binding is asked for less than ``expires_min_s``.
        PathNotSupported: there is a Path, and ``path_mode`` is ``strict``.
    """
    callid, cseq = request.call_id, request.cseq.number
    contacts = request.contacts
    expires_s = request.expires_s
    default_s = config.expires_default_s if expires_s is None else expires_s
    if contacts is STAR:
        if expires_s != 0:
            raise ParseError("Expires: 0 with Contact: *", request.get("expires") or "")
        return Change(callid, cseq, (), True)
    methods = ",".join(request.get_all("allow"))
    path = _path_of(request)
    knows_path = bool(path) and _supports_path(request)
    if path and not knows_path and config.path_mode == "strict":
        raise PathNotSupported
    return Change(
        callid,
        cseq,
        tuple(
            [
                Binding(
                    contact=contact.uri_text,
                    params=_without_expires(contact.params),
                    q=1000 if contact.q is None else contact.q,
                    expires_s=now.unix_s + _granted_s(contact, default_s, config),
                    callid=callid,
                    cseq=cseq,
                    path=path,
                    instance=contact.instance,
                    reg_id=contact.reg_id,
                    methods=contact.methods or methods,
                    flow=flow,
                    node=config.node,
                    updated_ms=now.unix_ms,
                )
                for contact in contacts
            ]
        ),
        False,
        path if knows_path else "",
    )


def response_headers(bindings: tuple[Binding, ...], path: str, now: Moment) -> list[tuple[str, str]]:
    """Return the headers of the 200: every binding with its remaining seconds, the date (step 8), and the Path.

    One that ran out while the store was asked is none any more.
    """
    headers = [("Date", format_date(now.unix_s))]
    if path:
        headers.append(("Path", path))
    headers += [
        ("Contact", _contact_of(binding, left_s))
        for binding in bindings
        if (left_s := binding.expires_s - now.unix_s) > 0
    ]
    return headers


def _contact_of(binding: Binding, expires_s: int) -> str:
    return f"<{binding.contact}>{binding.params};expires={expires_s}"


def _path_of(request: Request) -> str:
    """Return the elements of Path, each of which is a SIP URI in brackets (RFC 3327 section 4)."""
    if "path" not in request.head.first:
        return ""
    _ = request.path
    # The text and not the hops: it goes into the Route of what is sent to the binding as the proxies wrote it.
    return ", ".join(element for value in request.get_all("path") for element in split_list(value))


def _supports_path(request: Request) -> bool:
    return any(tag.lower() == "path" for tag in (*request.supported, *request.require))


def _without_expires(params: str) -> str:
    # What is left of a binding is counted anew in each answer.
    if "expires" not in params.lower():
        return params
    kept = [param for param in _PARAM.findall(params) if _name_of(param) != "expires"]
    return "".join(kept)


def _name_of(param: str) -> str:
    return param[1:].partition("=")[0].strip().lower()


def _granted_s(contact: Contact, default_s: int, config: Config) -> int:
    asked_s = default_s if contact.expires_s is None else contact.expires_s
    # "If and only if the requested expiration interval is greater than zero AND smaller than one hour AND less than a
    # registrar-configured minimum" (step 7).
    if 0 < asked_s < config.expires_min_s and asked_s < _HOUR_S:
        raise IntervalTooBrief(f"{asked_s} s is less than {config.expires_min_s} s")
    return min(asked_s, config.expires_max_s)


class Rebinding(msgspec.Struct, frozen=True, gc=False):
    """What to write: `removed` and `written` by Contact URI, and all of `bindings` that are then alive.

    A binding in `written` replaces the one of the same `contact` or is new.
    """

    bindings: tuple[Binding, ...]
    written: tuple[Binding, ...]
    removed: tuple[str, ...]


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """The whole REGISTER fails with `status`; nothing is written ("all or nothing", RFC 3261 section 10.3 step 7)."""

    status: int
    reason: str


def preferred(binding: Binding) -> tuple[int, int, str]:
    """Sort key: descending q, then the latest REGISTER first, then the URI so that the order is always the same."""
    return (-binding.q, -binding.updated_ms, binding.contact)


def rebind(current: tuple[Binding, ...], change: Bind) -> Rebinding | Rejection:
    """Apply one REGISTER.

    Args:
        current: the owner's bindings as they stand, expired ones allowed: they count as absent.
        change: the REGISTER.
    """
    contacts, now_s = change.contacts, change.now_s
    if len(contacts) > change.bindings_max and sum(c.expires_s > now_s for c in contacts) > change.bindings_max:
        # Before they are compared with each other, which takes quadratic time.
        return _too_many()
    alive = {binding.contact: binding for binding in current if binding.expires_s > now_s}
    uris: dict[str, SipUri] = {}

    def uri_of(text: str) -> SipUri:
        # Each may be compared with every other.
        if text not in uris:
            uris[text] = parse_uri(text, limits=_UNBOUNDED)
        return uris[text]

    # Rows of bindings that ran out are swept by the cleaner; one that is registered again is simply replaced.
    if change.remove_all:
        for binding in alive.values():
            if _is_stale(binding, change):
                return _out_of_order()
        return Rebinding((), (), tuple(alive))
    written: list[Binding] = []
    removed: list[str] = []
    for contact in contacts:
        known = alive.get(contact.contact)
        if known is None and alive:
            # "... using the URI comparison rules" (section 10.3 step 7), which are those of section 19.1.4.
            equal = (b for text, b in alive.items() if uri_of(text).equivalent(uri_of(contact.contact)))
            known = next(equal, None)
        if known is not None:
            # A contact may stand twice in one request: the last one counts.
            if _is_stale(known, change) and known not in written:
                return _out_of_order()
            del alive[known.contact]
        if contact.expires_s > now_s:
            if known is not None and known.contact != contact.contact:
                removed.append(known.contact)
            alive[contact.contact] = contact
            written.append(contact)
        elif known is not None:
            removed.append(known.contact)
    if len(alive) > change.bindings_max and written:
        return _too_many()
    if sum(map(_size_of, alive.values())) > change.bindings_bytes_max and written:
        return Rejection(403, "Bindings Too Long")
    return Rebinding(tuple(sorted(alive.values(), key=preferred)), tuple(written), tuple(removed))


def _is_stale(known: Binding, change: Bind) -> bool:
    # "If the Call-ID value in the existing binding differs from the Call-ID value in the request, the binding MUST be
    # removed/updated ... If they are the same, the registrar compares the CSeq value."
    return known.callid == change.callid and known.cseq >= change.cseq


def _size_of(binding: Binding) -> int:
    # As long as the header will ever be: what is left of the binding has never more digits than this.
    return len(encode_head(f"Contact: {_contact_of(binding, DELTA_SECONDS_MAX)}\r\n"))


def _too_many() -> Rejection:
    # No status of its own exists for this; 403 tells the device not to try again unchanged.
    return Rejection(403, "Too Many Bindings")


def _out_of_order() -> Rejection:
    # "If not, the update MUST be aborted and the request fails." 500 is what section 12.2.2 answers to such a CSeq.
    return Rejection(500, "CSeq Out of Order")
