"""URIs as odd as the grammar lets them be."""

import string

from hypothesis import strategies as st

from msilo_core.tel import TelUri
from msilo_core.uri import SipUri

__all__ = ["escapable", "hosts", "names", "tel_uris", "uris"]

_UNRESERVED = string.ascii_letters + string.digits + "-_.!~*'()"


def escapable(characters: str, min_size: int = 0) -> st.SearchStrategy[str]:
    octets = st.integers(0, 255).map(lambda octet: f"%{octet:02X}")
    return st.lists(st.sampled_from(characters) | octets, min_size=min_size, max_size=8).map("".join)


_labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,5}[A-Za-z0-9])?", fullmatch=True)
_tops = st.from_regex(r"[A-Za-z]([A-Za-z0-9-]{0,5}[A-Za-z0-9])?\.?", fullmatch=True)
names = st.builds("{}{}".format, st.lists(_labels.map("{}.".format), max_size=3).map("".join), _tops)
hosts = st.one_of(names, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda address: f"[{address}]"))
_param_texts = escapable(_UNRESERVED + "[]/:&+$", 1)
_params = st.lists(st.builds(";{}{}".format, _param_texts, st.just("") | _param_texts.map("={}".format)))
_header_texts = escapable(_UNRESERVED + "[]/?:+$")
_headers = st.lists(st.builds("{}={}".format, _header_texts.filter(bool), _header_texts))
uris = st.builds(
    SipUri,
    scheme=st.sampled_from(["sip", "sips"]),
    user=escapable(_UNRESERVED + "&=+$,;?/", 1),
    password=st.none() | escapable(_UNRESERVED + "&=+$,"),
    host=hosts,
    port=st.none() | st.integers(1, 65535),
    params=_params.map("".join),
    headers=_headers.map(lambda headers: "?" + "&".join(headers) if headers else ""),
) | st.builds(SipUri, st.just("sip"), st.none(), st.none(), hosts, st.none() | st.integers(1, 65535))

_number = st.from_regex(r"\+[-.()]{0,2}[0-9][0-9\-.()]{0,6}", fullmatch=True)
_local = st.from_regex(r"[-.()]{0,2}[0-9A-Fa-f*#][0-9A-Fa-f*#\-.()]{0,6}", fullmatch=True)
_extensions = st.from_regex(r"[-.()]{0,2}[0-9][0-9\-.()]{0,4}", fullmatch=True).map("ext={}".format)
_subaddresses = escapable(_UNRESERVED + "/?:@&=+$,[]", 1).map("isub={}".format)
_contexts = (names | _number).map("phone-context={}".format)
_others = st.builds(
    "{}{}".format,
    st.from_regex(r"[A-Za-z0-9\-]{1,4}", fullmatch=True).filter(lambda name: name.lower() not in ("ext", "isub")),
    st.just("") | escapable(_UNRESERVED + "[]/:&+$", 1).map("={}".format),
)


@st.composite
def tel_uris(draw: st.DrawFn) -> TelUri:
    """Return any tel URI, its parameters in any order."""
    number = draw(_number | _local)
    params = draw(st.lists(_others, max_size=3, unique_by=lambda param: param.partition("=")[0].lower()))
    params += draw(st.just([]) | _extensions.map(lambda param: [param]) | _subaddresses.map(lambda param: [param]))
    if not number.startswith("+") or draw(st.booleans()):
        params.append(draw(_contexts))
    params = draw(st.permutations(params))
    return TelUri(number, "".join(f";{param.title() if draw(st.booleans()) else param}" for param in params))
