"""Values of header fields: each parser takes any text or refuses it, and what it took is written as it was."""

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

from fuzz.octets import decoded
from msilo_core.errors import PeerError
from msilo_core.fields import (
    STAR,
    format_date,
    parse_accept,
    parse_accept_encoding,
    parse_accept_language,
    parse_call_id,
    parse_call_info,
    parse_challenge,
    parse_codings,
    parse_contact_preferences,
    parse_contacts,
    parse_content_length,
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
    parse_max_forwards,
    parse_media_type,
    parse_mime_version,
    parse_name_addr,
    parse_priority,
    parse_privacy,
    parse_products,
    parse_request_disposition,
    parse_retry_after,
    parse_sent_by,
    parse_text,
    parse_tokens,
    parse_via,
    parse_warnings,
)

__all__ = ["FIELDS", "fields"]


def fields(data: bytes) -> None:
    """The first octet picks the field; the rest is its value, of several lines if that has line feeds."""
    if not data:
        return
    field = FIELDS[data[0] % len(FIELDS)]
    text = decoded(data[1:])
    try:
        value = field.parse(text)
    except PeerError:
        return
    _ask(value)
    if field.write is not None:
        assert field.parse(field.write(value)) == value, (text, value)


class Field(msgspec.Struct, frozen=True):
    """How a field is read, and how it is written; `write` is None for what is read only."""

    parse: Callable[[str], Any]
    write: Callable[[Any], str] | None = None


def _of_lines(parse: Callable[[Sequence[str]], Any]) -> Callable[[str], Any]:
    return lambda text: parse(text.split("\n"))


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _written_contacts(values: Any) -> str:
    return "*" if values is STAR else _listed(values)


def _in_words(values: Sequence[object]) -> str:
    return " ".join(map(str, values))


def _in_elements(values: Sequence[object]) -> str:
    return ";".join(map(str, values))


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


FIELDS: Final = (
    Field(parse_via, str),
    Field(parse_sent_by, str),
    Field(parse_name_addr, str),
    Field(_of_lines(parse_contacts), _written_contacts),
    Field(_of_lines(parse_hops), _listed),
    Field(_of_lines(parse_identities), _listed),
    Field(_of_lines(parse_call_info), _listed),
    Field(_of_lines(parse_contact_preferences), _listed),
    Field(_of_lines(parse_request_disposition), _listed),
    Field(_of_lines(parse_accept), _listed),
    Field(_of_lines(parse_accept_encoding), _listed),
    Field(_of_lines(parse_accept_language), _listed),
    Field(parse_media_type, str),
    Field(parse_disposition, str),
    Field(_of_lines(parse_codings), _listed),
    Field(_of_lines(parse_languages), _listed),
    Field(_of_lines(parse_tokens), _listed),
    Field(_of_lines(parse_in_reply_to), _listed),
    Field(_of_lines(parse_warnings), _listed),
    Field(parse_challenge, str),
    Field(parse_credentials, str),
    Field(parse_call_id, str),
    Field(parse_cseq, str),
    Field(parse_date, format_date),
    Field(parse_delta_seconds, str),
    Field(parse_content_length, str),
    Field(parse_max_forwards, str),
    Field(parse_max_breadth, str),
    Field(parse_mime_version, _dotted),
    Field(parse_retry_after, str),
    Field(parse_event, str),
    Field(parse_priority, str),
    Field(parse_privacy, _in_elements),
    Field(parse_products, _in_words),
    Field(parse_text, str),
    Field(parse_features),
)
"""The order is part of the seeds: new ones come last."""


def _ask(value: object) -> None:
    """Look at everything that a value says; only what is no number or URI after all may be refused."""
    values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    for one in values:
        for name, attribute in vars(type(one)).items():
            if isinstance(attribute, property):
                try:
                    getattr(one, name)
                except PeerError:
                    continue
