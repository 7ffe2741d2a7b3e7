"""Authorization, WWW-Authenticate and their likes for proxies (RFC 3261 sections 20.7, 20.27, 20.28 and 20.44).

None of the four is a list: commas part the parameters of one value, and several values are several header lines (RFC
3261 section 7.3.1). Only the Digest scheme (RFC 7616, RFC 8760) is taken apart; of another the parameters are checked
and kept as received.

What devices send against the grammar is taken where it can mean one thing only:

- a token where a quoted string belongs, and the other way round: ``algorithm="MD5"``, ``qop=auth`` in a challenge,
  ``qop="auth"`` and ``nc="00000001"`` in credentials, ``stale="false"``;
- ``nc`` with fewer than eight digits, or with capital ones;
- blanks between the options of ``qop``, and commas with nothing between them;
- parameters that are missing: they count as empty. Credentials before the first challenge have an empty nonce and
  response anyhow (RFC 8760 section 2.7), and nobody is let in by either.

A ``uri`` without quotes is not taken: a URI is no token, and where it ends at a comma nobody can say.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import EQUAL, unquote
from msilo_core.grammar import LWS, QUOTED_STRING, SWS, TOKEN, is_token

__all__ = ["Challenge", "Credentials", "parse_challenge", "parse_credentials"]

_DIGEST: Final = "Digest"


class Challenge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value of WWW-Authenticate or Proxy-Authenticate. Strings are without quotes and backslashes.

    Attributes:
        scheme: ``Digest``, however that was written; another as received.
        realm: the protection domain; here and below empty if it was not there, and for other schemes.
        nonce: what the client shall hash; a challenge without one cannot be answered.
        algorithm: a token as received; empty means MD5 (RFC 7616 section 3.3).
        qop: the options in lower case and in their order; empty for a server of RFC 2069.
        opaque: to be sent back as it is, or None.
        stale: whether only the nonce was refused, not the password.
        domain: as received; it means nothing to a proxy, and in SIP the realm alone is the protection domain.
        userhash: whether the server takes a hashed user name (RFC 7616 section 3.4.4).
        params: of another scheme: all that follows it, as received. Empty for Digest, whose further parameters are not
            kept.
    """

    scheme: str = _DIGEST
    realm: str = ""
    nonce: str = ""
    algorithm: str = ""
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False
    domain: str = ""
    userhash: bool = False
    params: str = ""

    @property
    def is_digest(self) -> bool:
        """Whether the scheme is Digest."""
        return self.scheme == _DIGEST

    def __str__(self) -> str:
        """Return the header value; :func:`parse_challenge` gives the same value back."""
        if not self.is_digest:
            return f"{self.scheme} {self.params}".rstrip(" ")
        # RFC 7616 section 3.3 says for each whether a sender quotes it.
        return "".join(
            (
                f"Digest realm={_quoted(self.realm)}",
                f", domain={_quoted(self.domain)}" if self.domain else "",
                f', qop="{",".join(self.qop)}"' if self.qop else "",
                f", nonce={_quoted(self.nonce)}",
                "" if self.opaque is None else f", opaque={_quoted(self.opaque)}",
                ", stale=true" if self.stale else "",
                f", algorithm={self.algorithm}" if self.algorithm else "",
                ", userhash=true" if self.userhash else "",
            )
        )


class Credentials(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value of Authorization or Proxy-Authorization. Strings are without quotes and backslashes.

    Attributes:
        scheme: ``Digest``, however that was written; another as received.
        username: the user's name in the realm, or its hash; here and below empty if it was not there, and for other
            schemes.
        realm: the protection domain.
        nonce: the nonce of the challenge; empty before there was one, as IMS phones send it.
        uri: the Request-URI as it was when the request left the client; not checked.
        response: as received; what hexadecimal digits it should be is for who checks it.
        algorithm: a token as received; empty means MD5.
        cnonce: the client's nonce.
        opaque: from the challenge, or None.
        qop: a token as received; empty from a client of RFC 2069.
        nc: 1 to 8 hexadecimal digits as received, for they are hashed as they stand; see :attr:`nonce_count`.
        userhash: whether `username` is a hash (RFC 7616 section 3.4.4).
        params: of another scheme: all that follows it, as received. Empty for Digest, whose further parameters are not
            kept.
    """

    scheme: str = _DIGEST
    username: str = ""
    realm: str = ""
    nonce: str = ""
    uri: str = ""
    response: str = ""
    algorithm: str = ""
    cnonce: str = ""
    opaque: str | None = None
    qop: str = ""
    nc: str = ""
    userhash: bool = False
    params: str = ""

    @property
    def is_digest(self) -> bool:
        """Whether the scheme is Digest."""
        return self.scheme == _DIGEST

    @property
    def nonce_count(self) -> int | None:
        """What `nc` says, 0 to 2**32 - 1, or None."""
        return int(self.nc, 16) if self.nc else None

    def __str__(self) -> str:
        """Return the header value; :func:`parse_credentials` gives the same value back."""
        if not self.is_digest:
            return f"{self.scheme} {self.params}".rstrip(" ")
        # RFC 7616 section 3.4 says for each whether a sender quotes it.
        return "".join(
            (
                f"Digest username={_quoted(self.username)}, realm={_quoted(self.realm)}, nonce={_quoted(self.nonce)}",
                f", uri={_quoted(self.uri)}, response={_quoted(self.response)}",
                f", algorithm={self.algorithm}" if self.algorithm else "",
                f", cnonce={_quoted(self.cnonce)}" if self.cnonce else "",
                "" if self.opaque is None else f", opaque={_quoted(self.opaque)}",
                f", qop={self.qop}" if self.qop else "",
                f", nc={self.nc}" if self.nc else "",
                ", userhash=true" if self.userhash else "",
            )
        )

    def __repr__(self) -> str:
        """Return all of it, but of another scheme only the name: Basic is a password, and Bearer as good as one."""
        if not self.is_digest:
            return f"Credentials(scheme={self.scheme!r})"
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"Credentials({fields})"


def parse_challenge(text: str) -> Challenge:
    """Parse a value of WWW-Authenticate or Proxy-Authenticate: one header line.

    Raises:
        ParseError: also for a parameter that stands there twice, and for an algorithm or an option of qop that is no
            token.
    """
    scheme, rest = _parse_scheme(text)
    params = _parse_params(scheme, rest)
    if params is None:
        return Challenge(scheme=scheme, params=rest)
    return Challenge(
        realm=params.get("realm", ""),
        nonce=params.get("nonce", ""),
        algorithm=_token(params, "algorithm"),
        qop=_parse_options(params.get("qop", "")),
        opaque=params.get("opaque"),
        # "A case-insensitive flag ... anything other than true" is false (RFC 7616 section 3.3).
        stale=params.get("stale", "").lower() == "true",
        domain=params.get("domain", ""),
        userhash=params.get("userhash", "").lower() == "true",
    )


def parse_credentials(text: str) -> Credentials:
    """Parse a value of Authorization or Proxy-Authorization: one header line.

    Raises:
        ParseError: also for a parameter that stands there twice; for an algorithm or a qop that is no token; for an
            ``nc`` of anything but 1 to 8 hexadecimal digits; for ``username*`` beside ``username``, in a character set
            other than UTF-8, or with a control character.
    """
    scheme, rest = _parse_scheme(text)
    params = _parse_params(scheme, rest)
    if params is None:
        return Credentials(scheme=scheme, params=rest)
    nc = params.get("nc", "")
    if nc and _NC.fullmatch(nc) is None:
        raise ParseError("an nc of 1 to 8 hexadecimal digits", nc)
    return Credentials(
        username=_parse_username(params),
        realm=params.get("realm", ""),
        nonce=params.get("nonce", ""),
        uri=params.get("uri", ""),
        response=params.get("response", ""),
        algorithm=_token(params, "algorithm"),
        cnonce=params.get("cnonce", ""),
        opaque=params.get("opaque"),
        qop=_token(params, "qop"),
        nc=nc,
        userhash=params.get("userhash", "").lower() == "true",
    )


# credentials       =  ("Digest" LWS digest-response) / other-response
# challenge         =  ("Digest" LWS digest-cln *(COMMA digest-cln)) / other-challenge
# other-response    =  auth-scheme LWS auth-param *(COMMA auth-param)
# auth-scheme       =  token
# The parameters may be missing: a challenge of Negotiate has none.
_SCHEME: Final = re.compile(rf"({TOKEN})(?:{LWS}|\Z)")

# auth-param        =  auth-param-name EQUAL ( token / quoted-string )
# COMMA             =  SWS "," SWS
# The token is that of RFC 7616, which is HTTP's: its `username*` may hold what is no part of a token in SIP.
_VALUE: Final = r"[A-Za-z0-9\-.!%*_+`'~#$&^|]++"
_AUTH_PARAM: Final = re.compile(rf"{SWS}(?>({TOKEN}){EQUAL}({_VALUE}|{QUOTED_STRING})|){SWS}(?:,|\Z)")

# token68           =  1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="       ; RFC 7235 section 2.1
# RFC 8898 writes a Bearer token so, and Negotiate its answers.
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]++=*+")

# nc-value          =  8LHEX
_NC: Final = re.compile(r"[0-9A-Fa-f]{1,8}")

# qop-options       =  "qop" EQUAL LDQUOT qop-value *("," qop-value) RDQUOT
_OPTIONS_END: Final = re.compile(r"[, \t]++")

# ext-value         =  charset  "'" [ language ] "'" value-chars                          ; RFC 5987 section 3.2.1
# value-chars       =  *( pct-encoded / attr-char )
# attr-char         =  ALPHA / DIGIT / "!" / "#" / "$" / "&" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~"
_EXT_VALUE: Final = re.compile(r"[Uu][Tt][Ff]-8'[A-Za-z0-9\-]*+'((?>(?:[A-Za-z0-9!#$&+\-.^_`|~]++|%[0-9A-Fa-f]{2})*))")
_CONTROL: Final = re.compile(r"[\x00-\x1F\x7F]")

# What a quoted string holds only behind a backslash. It never holds CR or LF: who writes them makes no header.
_QUOTED_ONLY: Final = re.compile(r'["\\\x00-\x08\x0B\x0C\x0E-\x1F\x7F]')


def _parse_scheme(text: str) -> tuple[str, str]:
    """Return the scheme and what follows it, without blanks around."""
    text = text.strip(" \t")
    match = _SCHEME.match(text)
    if match is None:
        raise ParseError("an authentication scheme", text)
    scheme = match[1]
    return _DIGEST if scheme.lower() == _DIGEST.lower() else scheme, text[match.end() :]


def _parse_params(scheme: str, text: str) -> dict[str, str] | None:
    """Return the parameters of Digest by name in lower case, unquoted; None for another scheme, well-formed too."""
    if scheme != _DIGEST and _TOKEN68.fullmatch(text) is not None:
        return None
    params: dict[str, str] = {}
    start = 0
    while start < len(text):
        match = _AUTH_PARAM.match(text, start)
        if match is None:
            # What other schemes say is not shown: it may be a password.
            found = text[start:] if scheme == _DIGEST else scheme
            raise ParseError("a name, '=' and a token or a quoted string", found, start)
        start = match.end()
        name, value = match.groups()
        if name is not None:
            # Two values of one name mean one thing to us and perhaps another to who comes after us.
            if (name := name.lower()) in params:
                raise ParseError("each parameter once", name)
            params[name] = unquote(value)
    if scheme != _DIGEST:
        return None
    if not params:
        raise ParseError("parameters of Digest", text)
    return params


def _token(params: dict[str, str], name: str) -> str:
    value = params.get(name, "")
    if value and not is_token(value):
        raise ParseError(f"{name} to be a token", value)
    return value


def _parse_options(text: str) -> tuple[str, ...]:
    options = tuple(option.lower() for option in _OPTIONS_END.split(text) if option)
    for option in options:
        if not is_token(option):
            raise ParseError("options of qop that are tokens", text)
    return options


def _parse_username(params: dict[str, str]) -> str:
    extended = params.get("username*")
    if extended is None:
        return params.get("username", "")
    # "Sending both username and username* in the same header option MUST be treated as an error."
    match = _EXT_VALUE.fullmatch(extended)
    if match is None or "username" in params:
        raise ParseError("one username, or one username* in UTF-8", extended)
    try:
        username = unquote_to_bytes(match[1]).decode()
    except UnicodeDecodeError:
        raise ParseError("UTF-8 in username*", extended) from None
    if _CONTROL.search(username) is not None:
        raise ParseError("a username without control characters", extended)
    return username


def _quoted(text: str) -> str:
    return f'"{_QUOTED_ONLY.sub(_escaped, text)}"'


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"
