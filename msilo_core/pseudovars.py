"""Kamailio's pseudo-variables in a setting: compiled once, evaluated against a request.

A template is text in which ``$fu`` stands for the From URI, ``$hdr(Subject)`` for a header, ``$avp(name)`` for what a
route function left in :attr:`msilo_core.Call.avps`, and ``$$`` for a dollar sign. A name in parentheses, ``$(fu)``,
may be followed by letters. What a request does not have is ``<null>``, as in Kamailio; its transformations, such as
``$(fu{uri.user})``, are not known here.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Final, Protocol, TypeAlias

import msgspec

from msilo_core.clock import Moment
from msilo_core.errors import LocalError, PeerError
from msilo_core.flow import Flow
from msilo_core.message import Request
from msilo_core.uri import SipUri, parse_uri

__all__ = ["AvpValue", "Scope", "Template", "ctime", "parse_avp_name", "parse_template"]

AvpValue: TypeAlias = str | int

NULL: Final = "<null>"
"""What stands for a value that is not there."""


class Scope(Protocol):
    """What pseudo-variables are evaluated against; a :class:`msilo_core.Call` is one.

    Attributes:
        request: the request.
        flow: the flow it came by.
        request_uri: its Request-URI, as the route sees it.
        avps: attribute-value pairs, by name.
        variables: ``$var``s, by name.
        flags: numbers of the flags that are set, 0 to 31.
        status: of the response that came back, or 0.
        reason: its reason phrase.
        now: the present.
        zone: of the times that are printed.
    """

    @property
    def request(self) -> Request: ...
    @property
    def flow(self) -> Flow: ...
    @property
    def request_uri(self) -> str: ...
    @property
    def avps(self) -> Mapping[str, AvpValue]: ...
    @property
    def variables(self) -> Mapping[str, AvpValue]: ...
    @property
    def flags(self) -> frozenset[int] | set[int]: ...
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def now(self) -> Moment: ...
    @property
    def zone(self) -> tzinfo: ...


Value: TypeAlias = str | int | None
Variable: TypeAlias = Callable[[Scope], Value]


class Template(msgspec.Struct, frozen=True):
    """Text with pseudo-variables.

    Attributes:
        text: as it was written.
        parts: fixed texts, and functions that give the values between them.
    """

    text: str
    parts: tuple[str | Variable, ...]

    def render(self, scope: Scope) -> str:
        """Return the text with the values of a request; one that is malformed counts as not there."""
        return "".join([part if isinstance(part, str) else _shown(part, scope) for part in self.parts])

    def render_lines(self, scope: Scope) -> str:
        """Return header lines with the values of a request, none of which may bring a line of its own."""
        return "".join([part if isinstance(part, str) else _on_one_line(_shown(part, scope)) for part in self.parts])


def parse_template(text: str) -> Template:
    """Compile a text with pseudo-variables.

    Raises:
        LocalError: a name is not known, or a dollar sign stands alone.
    """
    parts: list[str | Variable] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        parts.append(_variable(match, text))
    parts.append(text[end:])
    return Template(text, tuple(part for part in parts if part != ""))


def parse_avp_name(text: str) -> str:
    """Return the name in an AVP such as ``$avp(snd_time)``; ``$avp(s:snd_time)`` is the same.

    Raises:
        LocalError: it is none.
    """
    match = _AVP.fullmatch(text.strip())
    if match is None:
        raise LocalError(f"{text!r} is no AVP: give one such as $avp(snd_time)")
    name: str = match[1]
    return name


def ctime(unix_s: int, zone: tzinfo) -> str:
    """Return a time as C's ``ctime`` prints it, without the line break, such as ``Sun Nov 22 23:58:32 2026``."""
    return datetime.fromtimestamp(unix_s, UTC).astimezone(zone).strftime("%a %b %e %H:%M:%S %Y")


_REFERENCE: Final = re.compile(
    r"\$(?:\$|(?P<plain>[A-Za-z_]\w*(?:\([^()]*\))?)|\((?P<enclosed>[A-Za-z_]\w*(?:\([^()]*\))?[^()]*)\))?"
)
_NAMED: Final = re.compile(r"(hdr|avp|var)\(\s*([^()\s]+)\s*\)")
_AVP: Final = re.compile(r"\$(?:\(\s*)?avp\(\s*(?:s:)?([\w:.-]+)\s*\)\s*\)?")


def _variable(match: re.Match[str], text: str) -> str | Variable:
    if match[0] == "$$":
        return "$"
    name = match["plain"] or match["enclosed"]
    if name is None:
        raise LocalError(f"a dollar sign stands alone in {text!r}: write $$ for one")
    simple = _SIMPLE.get(name)
    if simple is not None:
        return simple
    named = _NAMED.fullmatch(name)
    if named is None:
        raise LocalError(
            f"the pseudo-variable ${name} in {text!r} is not known: known are "
            f"{' '.join(f'${known}' for known in _SIMPLE)} $hdr(Name) $avp(name) $var(name) $$"
        )
    return _NAMED_KINDS[named[1]](named[2])


def _shown(variable: Variable, scope: Scope) -> str:
    try:
        value = variable(scope)
    except PeerError:
        value = None
    return NULL if value is None else str(value)


def _on_one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ").replace("\0", " ")


# -- The variables -----------------------------------------------------------------------------------------------------


def _header(name: str) -> Variable:
    key = name.lower()
    return lambda scope: scope.request.get(key)


def _avp(name: str) -> Variable:
    name = name.removeprefix("s:")
    return lambda scope: scope.avps.get(name)


def _var(name: str) -> Variable:
    # Kamailio's are 0 before anything was written to them.
    return lambda scope: scope.variables.get(name, 0)


_NAMED_KINDS: Final[dict[str, Callable[[str], Variable]]] = {"hdr": _header, "avp": _avp, "var": _var}


_DISPLAY_NAME: Final = re.compile(r'[ \t]*("(?:[^"\\]|\\.)*"|[^"<]*?)[ \t]*<')


def _display_name(value: str | None) -> str | None:
    # With its quotes, as it stands there: what is made of it may be a header.
    match = _DISPLAY_NAME.match(value or "")
    return (match and match[1]) or None


def _port(uri: SipUri) -> int:
    return uri.port or 5060


def _request_uri(scope: Scope) -> SipUri:
    uri = parse_uri(scope.request_uri)
    assert isinstance(uri, SipUri), "the request was validated"
    return uri


def _from_uri(scope: Scope) -> SipUri:
    return scope.request.from_.uri


def _to_uri(scope: Scope) -> SipUri:
    return scope.request.to.uri


def _body(scope: Scope) -> str:
    return scope.request.body.decode("utf-8", "surrogateescape")


_SIMPLE: Final[dict[str, Variable]] = {
    "ru": lambda scope: scope.request_uri,
    "rU": lambda scope: _request_uri(scope).user,
    "rd": lambda scope: _request_uri(scope).host,
    "rp": lambda scope: _port(_request_uri(scope)),
    # A next hop is never set by a route here.
    "du": lambda _scope: None,
    "fu": lambda scope: scope.request.from_.uri_text,
    "fU": lambda scope: _from_uri(scope).user,
    "fd": lambda scope: _from_uri(scope).host,
    "fn": lambda scope: _display_name(scope.request.get("from")),
    "ft": lambda scope: scope.request.from_.tag or None,
    "tu": lambda scope: scope.request.to.uri_text,
    "tU": lambda scope: _to_uri(scope).user,
    "td": lambda scope: _to_uri(scope).host,
    "tn": lambda scope: _display_name(scope.request.get("to")),
    "tt": lambda scope: scope.request.to.tag or None,
    "ci": lambda scope: scope.request.call_id,
    "cs": lambda scope: scope.request.cseq.number,
    "rm": lambda scope: scope.request.method,
    "rs": lambda scope: scope.status or None,
    "rr": lambda scope: scope.reason or None,
    "si": lambda scope: scope.flow.remote[0],
    "sp": lambda scope: scope.flow.remote[1],
    "Ri": lambda scope: scope.flow.local[0],
    "Rp": lambda scope: scope.flow.local[1],
    "pr": lambda scope: scope.flow.transport,
    "ct": lambda scope: scope.request.get("contact"),
    "cl": lambda scope: scope.request.content_length,
    "cT": lambda scope: scope.request.content_type or None,
    "ua": lambda scope: scope.request.get("user-agent"),
    "rb": _body,
    # Flags of branches are not known here.
    "bf": lambda _scope: 0,
    "mf": lambda scope: sum(1 << flag for flag in scope.flags),
    "Ts": lambda scope: scope.now.unix_s,
    "Tf": lambda scope: ctime(scope.now.unix_s, scope.zone),
    "TF": lambda scope: ctime(scope.now.unix_s, scope.zone),
}
