"""Octets as the parser gets to see them."""

__all__ = ["decoded"]


def decoded(data: bytes) -> str:
    """Return octets as the text that a :class:`msilo_core.head.Head` makes of them."""
    return data.decode("utf-8", "surrogateescape")
