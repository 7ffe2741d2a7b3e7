"""Values made to be slow."""

import contextlib
from collections.abc import Callable

import pytest

from msilo_core.errors import PeerError
from msilo_core.fields import (
    parse_call_id,
    parse_challenge,
    parse_contacts,
    parse_credentials,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_media_type,
    parse_name_addr,
    parse_via,
    split_first,
    split_list,
)
from msilo_core.limits import Limits
from tests.core.wire import growth

_PIECES = [
    " ", "\t", ";", ",", '"', "\\", '\\"', '"",', "<", ">", "<>", "<,>", "a", "a ", "a=", ";a", "; a", ";a=",
    ';a="b"', ";rport",
    "; rport ", ";branch=b", ";tag=t", "1", ":", ".", "a.", "-", "a-", "%41", "*,", "a,", "/", "é", "[::1]",
    "<sip:a@b>,",
]  # fmt: skip
_STARTS = ["", "SIP/2.0/UDP h", "SIP/2.0/UDP h;x=", "<sip:a@b>", '"', "<sip:", "text/plain", "1", "a"]

# No parameter of Digest may stand there twice, so most of these end early; the last test has parameters that go on.
_AUTH_STARTS = [
    "", "Digest ", "Digest a", "Digest a=", "Digest nc=", 'Digest qop="', "Digest username*=UTF-8''", "Basic ",
]  # fmt: skip
_AUTH_PIECES = ["=", "a=b,", 'a="b",', "a ,", ", ", "%C3", "'", '" , ']


def _parse_contact(text: str) -> object:
    return parse_contacts([text], Limits(uri_bytes_max=1_000_000))


def _complete_via(text: str) -> object:
    return parse_via(text).completed(";received=192.0.2.1;rport=5060")


_PARSERS: list[Callable[[str], object]] = [
    parse_via,
    parse_name_addr,
    parse_cseq,
    parse_call_id,
    parse_media_type,
    parse_date,
    parse_delta_seconds,
    split_list,
    split_first,
    _parse_contact,
    _complete_via,
]


def _parse_each(parse: Callable[[str], object], start: str, pieces: list[str], end: str) -> Callable[[int], None]:
    def parse_each(size: int) -> None:
        for piece in pieces:
            with contextlib.suppress(PeerError):
                parse(start + piece * (size // len(piece)) + end)

    return parse_each


@pytest.mark.parametrize("start", _STARTS)
@pytest.mark.parametrize("parse", _PARSERS)
def test_hostile_values_take_linear_time(parse: Callable[[str], object], start: str) -> None:
    assert growth(_parse_each(parse, start, _PIECES, "\0")) < 32


@pytest.mark.parametrize("end", ["\0", '"'])
@pytest.mark.parametrize("start", _AUTH_STARTS)
@pytest.mark.parametrize("parse", [parse_challenge, parse_credentials])
def test_hostile_challenges_and_credentials_take_linear_time(
    parse: Callable[[str], object], start: str, end: str
) -> None:
    assert growth(_parse_each(parse, start, _PIECES + _AUTH_PIECES, end)) < 32


@pytest.mark.parametrize("parse", [parse_challenge, parse_credentials])
def test_many_parameters_take_linear_time(parse: Callable[[str], object]) -> None:
    assert growth(lambda size: parse("Digest " + ",".join(f'a{n}="b"' for n in range(size // 8)))) < 32
