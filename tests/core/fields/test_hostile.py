"""Values made to be slow."""

import contextlib
from collections.abc import Callable, Sequence

import pytest

from msilo_core.errors import PeerError
from msilo_core.fields import (
    Comment,
    parse_accept,
    parse_accept_encoding,
    parse_accept_language,
    parse_call_id,
    parse_call_info,
    parse_challenge,
    parse_codings,
    parse_contact_preferences,
    parse_contacts,
    parse_credentials,
    parse_cseq,
    parse_date,
    parse_delta_seconds,
    parse_disposition,
    parse_event,
    parse_features,
    parse_hops,
    parse_identities,
    parse_in_reply_to,
    parse_languages,
    parse_max_breadth,
    parse_media_type,
    parse_mime_version,
    parse_name_addr,
    parse_priority,
    parse_privacy,
    parse_products,
    parse_request_disposition,
    parse_retry_after,
    parse_text,
    parse_tokens,
    parse_via,
    parse_warnings,
    split_first,
    split_list,
)
from msilo_core.limits import Limits
from tests.core.wire import growth

_PIECES = [
    " ", "\t", ";", ",", '"', "\\", '\\"', '"",', "<", ">", "<>", "<,>", "a", "a ", "a=", ";a", "; a", ";a=",
    ';a="b"', ";rport",
    "; rport ", ";branch=b", ";tag=t", "1", ":", ".", "a.", "-", "a-", "%41", "*,", "a,", "/", "é", "[::1]",
    "<sip:a@b>,", "(", "()", "(a", "\\)", "a(", "tel:+1,", ";ext=1", "*;a,", '"a",', "#=1,", "!",
]  # fmt: skip

# No parameter of Digest may stand there twice, so most of these end early; the last test has parameters that go on.
_AUTH_STARTS = [
    "", "Digest ", "Digest a", "Digest a=", "Digest nc=", 'Digest qop="', "Digest username*=UTF-8''", "Basic ",
]  # fmt: skip
_AUTH_PIECES = ["=", "a=b,", 'a="b",', "a ,", ", ", "%C3", "'", '" , ']


def _parse_contact(text: str) -> object:
    return parse_contacts([text], Limits(uri_bytes_max=1_000_000))


def _complete_via(text: str) -> object:
    return parse_via(text).completed(";received=192.0.2.1;rport=5060")


def _of_lines(parse: Callable[[Sequence[str]], object]) -> Callable[[str], object]:
    return lambda text: parse([text])


def _parse_products_and_write_them(text: str) -> object:
    return [str(value) for value in parse_products(text)], str(Comment(text))


_PARSERS: list[tuple[Callable[[str], object], list[str]]] = [
    (parse_via, ["", "SIP/2.0/UDP h", "SIP/2.0/UDP h;x="]),
    (_complete_via, ["SIP/2.0/UDP h", "SIP/2.0/UDP h;x="]),
    (parse_name_addr, ["", "<sip:a@b>", '"', "<sip:", "a"]),
    (_parse_contact, ["", "<sip:a@b>", '"', "<sip:", "a"]),
    (_of_lines(parse_hops), ["", "<sip:a@b>", '"', "<sip:"]),
    (_of_lines(parse_identities), ["", "tel:1", "<sip:"]),
    (_of_lines(parse_call_info), ["", "<a:b>", "<"]),
    (parse_features, ["", ';audio="', ';audio="<']),
    (_of_lines(parse_contact_preferences), ["", "*;a"]),
    (_of_lines(parse_request_disposition), [""]),
    (_of_lines(parse_accept), ["", "text/plain"]),
    (_of_lines(parse_accept_encoding), ["", "a"]),
    (_of_lines(parse_accept_language), ["", "a"]),
    (parse_media_type, ["", "text/plain"]),
    (parse_disposition, ["", "a"]),
    (_of_lines(parse_codings), [""]),
    (_of_lines(parse_languages), ["", "a"]),
    (_of_lines(parse_tokens), [""]),
    (parse_call_id, [""]),
    (_of_lines(parse_in_reply_to), ["", "a@"]),
    (parse_priority, [""]),
    (parse_privacy, [""]),
    (parse_text, [""]),
    (parse_event, ["", "a"]),
    (_of_lines(parse_warnings), ["", "399 a", '399 a "']),
    (_parse_products_and_write_them, ["", "a", "("]),
    (parse_retry_after, ["1", "1("]),
    (parse_cseq, ["", "1"]),
    (parse_date, [""]),
    (parse_delta_seconds, ["", "1"]),
    (parse_max_breadth, ["", "1"]),
    (parse_mime_version, ["", "1."]),
    (split_list, ["", '"', "<"]),
    (split_first, ["", '"', "<"]),
]


def _parse_each(parse: Callable[[str], object], start: str, pieces: list[str], end: str) -> Callable[[int], None]:
    def parse_each(size: int) -> None:
        for piece in pieces:
            with contextlib.suppress(PeerError):
                parse(start + piece * (size // len(piece)) + end)

    return parse_each


@pytest.mark.parametrize(("parse", "start"), [(parse, start) for parse, starts in _PARSERS for start in starts])
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
