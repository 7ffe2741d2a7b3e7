"""What a device can do, and which devices a sender wants: feature tags of a Contact (RFC 3840), Accept-Contact,
Reject-Contact and Request-Disposition (RFC 3841)."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from msilo_core.errors import ParseError
from msilo_core.fields.parameters import WithParams, checked_params, escape, parameters, split_list, unescape
from msilo_core.fields.words import parse_tokens

__all__ = [
    "ContactPreference",
    "FeatureNumber",
    "FeatureString",
    "FeatureToken",
    "FeatureValue",
    "parse_contact_preferences",
    "parse_features",
    "parse_request_disposition",
]


class FeatureToken(msgspec.Struct, frozen=True, gc=False):
    """A token, or a boolean, ``TRUE`` or ``FALSE``; in any case, as received.

    Attributes:
        token: the token.
        negated: the device has any value but this one.
    """

    token: str
    negated: bool = False

    def __str__(self) -> str:
        """Return it as it stands between the quotes of a parameter."""
        return _BANG[self.negated] + self.token


class FeatureNumber(msgspec.Struct, frozen=True, gc=False):
    """A number or a range of numbers; `low` and `high` belong to it, and are one for an equality.

    Attributes:
        low: the least number, or None for all up to `high`.
        high: the greatest number, or None for all from `low` on.
        negated: the device has any value but these.
    """

    low: Decimal | None
    high: Decimal | None
    negated: bool = False

    def __str__(self) -> str:
        """Return it as it stands between the quotes of a parameter."""
        bang = _BANG[self.negated]
        if self.low is None:
            return f"{bang}#<={self.high:f}"
        if self.high is None:
            return f"{bang}#>={self.low:f}"
        return f"{bang}#={self.low:f}" if self.low == self.high else f"{bang}#{self.low:f}:{self.high:f}"


class FeatureString(msgspec.Struct, frozen=True, gc=False):
    """A text in ``<>``: always the only value of its feature.

    Attributes:
        text: without the brackets and without backslashes.
    """

    text: str

    def __str__(self) -> str:
        """Return it as it stands between the quotes of a parameter."""
        return f"<{escape(self.text, _NOT_IN_STRING)}>"


FeatureValue: TypeAlias = FeatureToken | FeatureNumber | FeatureString


class ContactPreference(WithParams, msgspec.Struct, frozen=True, gc=False):
    """One value of Accept-Contact or Reject-Contact (RFC 3841 section 9.2): ``*`` and parameters.

    Attributes:
        params: as received.
    """

    params: str = ""

    @property
    def features(self) -> dict[str, tuple[FeatureValue, ...]]:
        """The features that are asked for; see :func:`parse_features`."""
        return parse_features(self.params)

    @property
    def explicit(self) -> bool:
        """Whether a device that does not speak of these features is passed over or comes last."""
        return self.param("explicit") is not None

    @property
    def require(self) -> bool:
        """Whether a device without these features gets nothing at all."""
        return self.param("require") is not None

    def __str__(self) -> str:
        """Return it as it stands in a header."""
        return f"*{self.params}"


def parse_contact_preferences(values: Sequence[str]) -> tuple[ContactPreference, ...]:
    """Parse all Accept-Contact lines of a message, or all Reject-Contact lines."""
    return tuple(_parse_preference(part) for value in values for part in split_list(value))


def parse_features(params: str) -> dict[str, tuple[FeatureValue, ...]]:
    """Return the features among the parameters of a Contact, Accept-Contact or Reject-Contact (RFC 3840 section 9).

    A feature has one of the names that RFC 3840 lists, or one that begins with ``+``.

    Args:
        params: parameters as received, from the first ``;`` on.

    Returns:
        By name in lower case, values of which one holds; ``TRUE`` alone for a feature without a value. A parameter
        whose value is not of that grammar is an extension of somebody's and no feature.

    Raises:
        ParseError: `params` are no parameters.
    """
    features: dict[str, tuple[FeatureValue, ...]] = {}
    for name, value in parameters(params, 0):
        if name in features or not (name in _BASE_TAGS or name.startswith("+")):
            continue
        values = _feature_values(value)
        if values is not None:
            features[name] = values
    return features


def parse_request_disposition(values: Sequence[str]) -> tuple[str, ...]:
    """Return the directives of all Request-Disposition lines, in lower case (RFC 3841 section 9.1).

    Raises:
        ParseError: one of them is none, "The set of request disposition directives is not extensible on purpose", or
            there are two of one type.
    """
    directives = tuple(token.lower() for token in parse_tokens(values))
    types: set[int] = set()
    for directive in directives:
        kind = _DIRECTIVES.get(directive)
        if kind is None or kind in types:
            raise ParseError("one directive of a type", directive)
        types.add(kind)
    return directives


# base-tags        =  "audio" / "automata" / ...
_BASE_TAGS: Final = frozenset(
    (
        *("audio", "automata", "class", "duplex", "data", "control", "mobility", "description", "events", "priority"),
        *("methods", "schemes", "application", "video", "language", "type", "isfocus", "actor", "text", "extensions"),
    )
)

_BANG: Final = ("", "!")

# tag-value-list   =  tag-value *("," tag-value)
# tag-value        =  ["!"] (token-nobang / boolean / numeric)
# token-nobang     =  1*(alphanum / "-" / "." / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
# numeric          =  "#" numeric-relation number
# numeric-relation =  ">=" / "<=" / "=" / (number ":")
# number           =  [ "+" / "-" ] 1*DIGIT ["." 0*DIGIT]
# "Any numbers present in a feature parameter MUST be representable using an ANSI C double": 309 digits at most.
_NUMBER: Final = r"[+\-]?+[0-9]{1,309}+(?>\.[0-9]{0,309}+|)"
_TAG_VALUE: Final = re.compile(
    rf"[ \t]*+(!?+)(?:([A-Za-z0-9\-.%*_+`'~]++)|#(?:(>=|<=|=)({_NUMBER})|({_NUMBER}):({_NUMBER})))[ \t]*+"
)

# string-value     =  "<" *(qdtext-no-abkt / quoted-pair ) ">"
# qdtext-no-abkt   =  LWS / %x21 / %x23-3B / %x3D / %x3F-5B / %x5D-7E / UTF8-NONASCII
_STRING: Final = re.compile(r'"<((?>(?:[^"<>\\\x00-\x08\x0A-\x1F\x7F]++|\\[\x00-\x09\x0B\x0C\x0E-\x7F])*))>"')
_NOT_IN_STRING: Final = re.compile(r'["<>\\\x00-\x08\x0A-\x1F\x7F]')

_TRUE: Final[tuple[FeatureValue, ...]] = (FeatureToken("TRUE"),)

# directive             =   proxy-directive / cancel-directive / fork-directive / recurse-directive /
#                           parallel-directive / queue-directive
_DIRECTIVES: Final = {
    directive: kind
    for kind, directives in enumerate(
        (
            ("proxy", "redirect"),
            ("cancel", "no-cancel"),
            ("fork", "no-fork"),
            ("recurse", "no-recurse"),
            ("parallel", "sequential"),
            ("queue", "no-queue"),
        )
    )
    for directive in directives
}


def _parse_preference(text: str) -> ContactPreference:
    if not text.startswith("*"):
        raise ParseError("'*' and parameters", text)
    return ContactPreference(checked_params(text, 1))


def _feature_values(value: str) -> tuple[FeatureValue, ...] | None:
    """Return what a value of ``generic-param`` says as that of a feature, or None."""
    if not value:
        return _TRUE
    match = _STRING.fullmatch(value)
    if match is not None:
        return (FeatureString(unescape(match[1])),)
    # Devices write a blank behind the comma, and leave out the quotes around a token.
    values: list[FeatureValue] = []
    for part in (value[1:-1] if value.startswith('"') else value).split(","):
        match = _TAG_VALUE.fullmatch(part)
        if match is None:
            return None
        values.append(_tag_value(match))
    return tuple(values)


def _tag_value(match: re.Match[str]) -> FeatureValue:
    bang, token, relation, number, low, high = match.groups()
    negated = bool(bang)
    if token is not None:
        return FeatureToken(token, negated)
    if relation is None:
        return FeatureNumber(Decimal(low), Decimal(high), negated)
    bound = Decimal(number)
    return FeatureNumber(None if relation == "<=" else bound, None if relation == ">=" else bound, negated)
