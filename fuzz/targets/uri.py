"""URIs and addresses of record: what is written parses to the same, and equality keeps its laws."""

import contextlib

from fuzz.octets import decoded
from msilo_core.errors import ParseError, PeerError
from msilo_core.tel import TelUri
from msilo_core.uri import AnyUri, Aor, SipUri, check_uri, parse_any_uri, parse_aor

__all__ = ["uri"]


def uri(data: bytes) -> None:
    """Two lines are two URIs, which are looked at alone and beside each other."""
    first, _, second = decoded(data).partition("\n")
    left, right = _parsed(first), _parsed(second)
    if isinstance(left, SipUri) and isinstance(right, SipUri):
        _compare(left, right)
    elif isinstance(left, TelUri) and isinstance(right, TelUri):
        _compare_numbers(left, right)


def _parsed(text: str) -> AnyUri | None:
    try:
        parsed = parse_any_uri(text)
    except ParseError:
        return None
    except PeerError:
        # Too long, or of a scheme that is not ours: then it is a URI all the same.
        with contextlib.suppress(ParseError):
            check_uri(text)
        return None
    check_uri(text)
    assert parse_any_uri(str(parsed)) == parsed, text
    return parsed


def _compare(left: SipUri, right: SipUri) -> None:
    """RFC 3261 section 19.1.4: reflexive and symmetric, and not transitive."""
    assert left.equivalent(left), left
    is_same = left.equivalent(right)
    assert right.equivalent(left) == is_same, (left, right)
    ours, theirs = _aor(left), _aor(right)
    assert (str(ours) == str(theirs)) == (ours == theirs), (left, right)
    if is_same:
        assert ours == theirs, (left, right)


def _aor(parsed: SipUri) -> Aor | None:
    """Return the key of the inbox, which names itself when it is written as a URI; None if there is none."""
    for name in ("transport", "lr", "maddr"):
        parsed.param(name)
    try:
        aor = parsed.aor()
    except PeerError:
        return None
    assert parse_aor(str(aor)) == aor, parsed
    return aor


def _compare_numbers(left: TelUri, right: TelUri) -> None:
    """RFC 3966 section 4: whatever is equivalent has one canonical form."""
    canonical = left.canonical()
    assert canonical.canonical() == canonical, left
    assert left.equivalent(canonical), left
    assert left.equivalent(right) == right.equivalent(left) == (canonical == right.canonical()), (left, right)
