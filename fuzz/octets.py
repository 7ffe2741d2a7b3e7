"""Octets as the parser gets to see them, and limits for those that the product made itself."""

from typing import Final

from msilo_core.limits import Limits

__all__ = ["ROOMY", "decoded"]

ROOMY: Final = Limits(
    message_bytes_max=2**20, head_bytes_max=2**20, line_bytes_max=2**20, headers_max=1_000, uri_bytes_max=2**16
)
"""A message that was as long as it may be is longer when it is passed on."""


def decoded(data: bytes) -> str:
    """Return octets as the text that a :class:`msilo_core.head.Head` makes of them."""
    return data.decode("utf-8", "surrogateescape")
