"""Headers that hold words: tokens, Call-IDs, plain text (RFC 3261 section 20)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import WithParams, identifier, quote, split_list, unquote
from msilo_core.grammar import (
    DIGITS,
    HOST,
    LWS,
    QUOTED_STRING,
    TOKEN,
    WORD,
    is_token,
    parse_port,
    require_ipv6_reference,
)

__all__ = [
    "LANGUAGE_TAG",
    "EventPackage",
    "WarningValue",
    "parse_call_id",
    "parse_event",
    "parse_in_reply_to",
    "parse_languages",
    "parse_priority",
    "parse_text",
    "parse_tokens",
    "parse_warnings",
]


class EventPackage(WithParams, msgspec.Struct, frozen=True, gc=False):
    """Event (RFC 6665 section 8.2.1).

    Attributes:
        event_type: package and template-packages as received: they are compared octet by octet.
        params: as received.
    """

    event_type: str
    params: str = ""

    @property
    def package(self) -> str:
        """The event package, without template-packages: ``presence`` of ``presence.winfo``."""
        return self.event_type.partition(".")[0]

    @property
    def id(self) -> str | None:
        """The ``id`` of one of several subscriptions in a dialog, or None."""
        return self.param("id")

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return self.event_type + self.params


class WarningValue(msgspec.Struct, frozen=True, gc=False):
    """One value of Warning (RFC 3261 section 20.43).

    Attributes:
        code: three digits, 0 to 999; 300 to 399 are SIP's.
        agent: who warns, ``host[:port]`` or a pseudonym, as received.
        text: for people, without quotes and backslashes.
    """

    code: int
    agent: str
    text: str

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return f"{self.code:03} {self.agent} {quote(self.text)}"


def parse_call_id(text: str) -> str:
    """Return a Call-ID: ``word [ "@" word ]``, compared octet by octet."""
    text = text.strip(" \t")
    if _CALL_ID.fullmatch(text) is None:
        raise ParseError("a Call-ID", text)
    return text


def parse_in_reply_to(values: Sequence[str]) -> tuple[str, ...]:
    """Return the Call-IDs of all In-Reply-To lines (RFC 3261 section 20.21)."""
    # Quotes and "<" are characters of a word like others here, and hide no comma.
    return tuple(parse_call_id(part) for part in _parts(values))


def parse_tokens(values: Sequence[str]) -> tuple[str, ...]:
    """Return the tokens of all lines of Allow, Supported, Require and their like, as received.

    Methods are case-sensitive, all other tokens are not (RFC 3261 section 7.3.1).
    """
    tokens = tuple(_parts(values))
    for token in tokens:
        if not is_token(token):
            raise ParseError("a token", token)
    return tokens


def parse_languages(values: Sequence[str]) -> tuple[str, ...]:
    """Return the language tags of all Content-Language lines, in lower case (RFC 3261 section 20.13)."""
    tags = tuple(_parts(values))
    for tag in tags:
        if _LANGUAGE_TAG.fullmatch(tag) is None:
            raise ParseError("a language tag", tag)
    return tuple(tag.lower() for tag in tags)


def parse_priority(text: str) -> str:
    """Return a Priority in lower case: ``emergency``, ``urgent``, ``normal``, ``non-urgent`` or another token."""
    text = text.strip(" \t")
    if not is_token(text):
        raise ParseError("a token", text)
    return text.lower()


def parse_text(text: str) -> str:
    """Return what a Subject or an Organization says: any text, also none; blanks in it are kept.

    Raises:
        ParseError: there is a control character in it other than HTAB.
    """
    text = text.strip(" \t")
    if _CONTROL.search(text) is not None:
        raise ParseError("text without control characters", text)
    return text


def parse_event(text: str) -> EventPackage:
    """Parse an Event."""
    text = text.strip(" \t")
    match = _EVENT_TYPE.match(text)
    if match is None:
        raise ParseError("an event package", text)
    identifier("id", text, match.end())
    return EventPackage(match[0], text[match.end() :].lstrip(" \t"))


def parse_warnings(values: Sequence[str]) -> tuple[WarningValue, ...]:
    """Parse all Warning lines of a message."""
    return tuple(_parse_warning(part) for value in values for part in split_list(value))


# callid         =  word [ "@" word ]
_CALL_ID: Final = re.compile(rf"{WORD}(?>@{WORD}|)")

# language-tag      =  primary-tag *( "-" subtag )
# primary-tag       =  1*8ALPHA
# subtag            =  1*8ALPHA
# RFC 3066, which came before SIP and replaced that grammar, has digits in subtags: "de-1996", "es-419".
LANGUAGE_TAG: Final = r"[A-Za-z]{1,8}+(?>(?:-[A-Za-z0-9]{1,8}+)*)"
_LANGUAGE_TAG: Final = re.compile(LANGUAGE_TAG)

# TEXT-UTF8-TRIM  =  1*TEXT-UTF8char *(*LWS TEXT-UTF8char)
# TEXT-UTF8char   =  %x21-7E / UTF8-NONASCII
_CONTROL: Final = re.compile(r"[\x00-\x08\x0A-\x1F\x7F]")

# event-type        =  event-package *( "." event-template )
# token-nodot       =  1*( alphanum / "-"  / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
_TOKEN_NODOT: Final = r"[A-Za-z0-9\-!%*_+`'~]++"
_EVENT_TYPE: Final = re.compile(rf"{_TOKEN_NODOT}(?>(?:\.{_TOKEN_NODOT})*)(?!\.)")

# warning-value  =  warn-code SP warn-agent SP warn-text
# warn-code      =  3DIGIT
# warn-agent     =  hostport / pseudonym
# warn-text      =  quoted-string
# pseudonym      =  token
# Some write more than one blank.
_WARNING: Final = re.compile(rf"([0-9]{{3}}){LWS}(({HOST})(?>:({DIGITS})|)|{TOKEN}){LWS}({QUOTED_STRING})")


def _parse_warning(text: str) -> WarningValue:
    match = _WARNING.fullmatch(text)
    if match is None:
        raise ParseError("""a Warning such as '399 example.com "text"'""", text)
    code, agent, host, port, warning = match.groups()
    if port is not None:
        parse_port(port)
    if host is not None and host.startswith("["):
        require_ipv6_reference(host)
    return WarningValue(int(code), agent, unquote(warning))


def _parts(values: Iterable[str]) -> Iterator[str]:
    """Yield the elements of comma lists whose elements hold no commas; empty ones are passed over."""
    return (part for value in values for element in value.split(",") if (part := element.strip(" \t")))
