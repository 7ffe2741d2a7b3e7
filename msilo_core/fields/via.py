"""Via (RFC 3261 section 20.42, RFC 3581)."""

import re
from typing import Final

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import EQUAL, PARAM_START, SLASH, identifier, parameters
from msilo_core.grammar import (
    DIGITS,
    HOST,
    IPV6_REFERENCE,
    LWS,
    QUOTED_STRING,
    SHAPE_HOST,
    SHAPE_PORT,
    SWS,
    TOKEN,
    parse_port,
    require_ipv6_reference,
)

__all__ = ["Via", "parse_sent_by", "parse_via"]


class Via(msgspec.Struct, frozen=True, gc=False):
    """One ``via-parm`` (RFC 3261 section 20.42).

    Attributes:
        transport: in upper case.
        host: sent-by host as received, IPv6 in brackets.
        port: sent-by port, 1 to 65535, or None.
        branch: the transaction's identifier; empty for an RFC 2543 sender.
        params: from the first ``;`` on as received, or empty.
    """

    transport: str
    host: str
    port: int | None
    branch: str
    params: str

    @property
    def sent_by(self) -> str:
        """``host[:port]`` in lower case: part of a server transaction's key (RFC 3261 section 17.2.3)."""
        host = self.host.lower()
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def received(self) -> str | None:
        """The ``received`` parameter, or None; IPv6 with or without brackets (RFC 5118 section 4.5)."""
        return self.param("received")

    @property
    def rport(self) -> str | None:
        """The ``rport`` parameter (RFC 3581): None if not there, empty if the sender asks for it."""
        params = self.params.lower()
        at = params.find("rport")
        if at < 0:
            return None
        # As nearly every request asks for it, without taking the parameters apart: at their end or between others.
        if params[at - 1 : at + 6] in (";rport", ";rport;") and '"' not in params:
            return ""
        return self.param("rport")

    def param(self, name: str) -> str | None:
        """Return the value of a parameter as received, empty for one without a value, None for one not there."""
        wanted = name.lower()
        return next((value for key, value in parameters(self.params, 0, _VIA_PARAM) if key == wanted), None)

    def completed(self, suffix: str) -> str:
        """Return the parameters with `suffix`, ``received`` or ``rport`` or both, instead of those of that name.

        RFC 3261 section 18.2.1 and RFC 3581 section 4: these say what the server saw, and nothing that the sender
        wrote may stay beside it.
        """
        # As nearly every request ends; in quotes it could not be the end.
        params = self.params.removesuffix(";rport") if "rport" in suffix else self.params
        written = params.lower()
        for name, pattern in _ANSWERED:
            if name in written and name in suffix:
                params = pattern.sub(_quoted_only if '"' in params else "", params)
        return params + suffix

    def __str__(self) -> str:
        """Return it as it stands in a header, of SIP/2.0 whatever it was of."""
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {self.host}{port}{self.params}"


def parse_via(text: str) -> Via:
    """Parse one ``via-parm``; :func:`split_list` parts a line that holds several."""
    match = _VIA_SHAPE.fullmatch(text)
    if match is None:
        return _parse_via(text)
    transport, host, port, params, branch = match.groups()
    return Via(transport, host, None if port is None else int(port), branch, params)


def parse_sent_by(text: str) -> Via:
    """Parse the begin of a ``via-parm`` whose parameters may be anything, so that its request can be refused.

    The value has no parameters and no branch.
    """
    return _parse_sent_by(text.strip(" \t"))[0]


# The shape is written as traffic writes it: no blanks but one, names in lower case, no IPv6.
_VIA_SHAPE: Final = re.compile(
    rf"SIP/2\.0/([A-Z]++) ({SHAPE_HOST})(?::({SHAPE_PORT})|)"
    rf"((?:;(?!branch[=;])[a-z]++(?:={TOKEN}|))*;branch=({TOKEN})(?:;(?!branch(?:[=;]|$))[a-z]++(?:={TOKEN}|))*)"
)

# via-parm       =  sent-protocol LWS sent-by *( SEMI via-params )
# sent-protocol  =  protocol-name SLASH protocol-version SLASH transport
# sent-by        =  host [ COLON port ]
# Name and version are not looked at: what came by another version is answered with 505, and the answer needs a Via.
_SENT_BY: Final = re.compile(rf"{TOKEN}{SLASH}{TOKEN}{SLASH}({TOKEN}){LWS}({HOST})(?>{SWS}:{SWS}({DIGITS})|)")

# via-received   =  "received" EQUAL (IPv4address / IPv6address), and so a value with colons outside of brackets.
# The name is not asked for: no other value can be mistaken for one of hexadecimal digits and colons.
_VIA_VALUE: Final = rf"(?:{TOKEN}(?!:)|{QUOTED_STRING}|{IPV6_REFERENCE}|[0-9A-Fa-f:.]++)"
_VIA_PARAM: Final = re.compile(rf"{PARAM_START}(?>{EQUAL}({_VIA_VALUE})|)")

# What a server writes into a Via. A quoted string is matched too, so that nothing is found inside of one.
_ANSWERED: Final = tuple(
    (
        name,
        re.compile(rf"{QUOTED_STRING}|;{SWS}{name}(?>{EQUAL}{_VIA_VALUE}|)(?={SWS}(?:;|$))", re.ASCII | re.IGNORECASE),
    )
    for name in ("received", "rport")
)


def _parse_via(text: str) -> Via:
    text = text.strip(" \t")
    via, start = _parse_sent_by(text)
    branch = identifier("branch", text, start, _VIA_PARAM)
    return Via(via.transport, via.host, via.port, branch, text[start:].lstrip(" \t"))


def _parse_sent_by(text: str) -> tuple[Via, int]:
    """Return what stands before the parameters, and where they begin."""
    match = _SENT_BY.match(text)
    if match is None:
        raise ParseError("a Via such as 'SIP/2.0/UDP host'", text)
    transport, host, port = match.groups()
    if host.startswith("["):
        require_ipv6_reference(host)
    return Via(transport.upper(), host, None if port is None else parse_port(port), "", ""), match.end()


def _quoted_only(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else ""
