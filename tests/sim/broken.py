"""What is raised where a promise is broken."""

__all__ = ["Broken"]


class Broken(Exception):
    """A promise is broken.

    Attributes:
        promise: ``P1`` to ``P10``.
        text: how.
    """

    def __init__(self, promise: str, text: str) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise
        self.text = text
