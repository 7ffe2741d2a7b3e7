"""A shape and the general parser, compared: both take any text put together from pieces that matter to them."""

from collections.abc import Callable

from hypothesis import strategies as st

from msilo_core.errors import PeerError

__all__ = ["joined", "outcome"]


def joined(pieces: list[str]) -> st.SearchStrategy[str]:
    """Return texts of some of these pieces and of odd characters."""
    return st.lists(st.sampled_from(pieces) | st.characters(max_codepoint=0x2FF), max_size=7).map("".join)


def outcome(parse: Callable[[str], object], text: str) -> object:
    """Return what a parser makes of a text: a value, or the kind of error that says that it is none."""
    try:
        return parse(text)
    except PeerError as error:
        return type(error)
