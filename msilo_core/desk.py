"""Storage actions that wait for their completions: the token of each, its deadline, and who wants the answer.

The runner owes exactly one completion for each token. When it is late, whoever asked is told :class:`StorageFailed`
at the deadline, once; what the store then still says goes to the second handler, which sets right what the first
could not know (a message that was stored after its sender was told 503).
"""

from collections.abc import Callable
from typing import TypeAlias

from msilo_core.actions import Action, Completion, StorageFailed
from msilo_core.clock import Moment
from msilo_core.errors import LocalError
from msilo_core.limits import Limits

__all__ = ["Desk", "Handler"]

Handler: TypeAlias = Callable[[Completion, Moment], list[Action]]


class Desk:
    """Tokens under way. All have the same time to be answered, so that their deadlines come in the order of issue."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tokens = 0
        self._awaited: dict[int, tuple[int, Handler, Handler]] = {}
        self._late: dict[int, Handler] = {}

    @property
    def is_full(self) -> bool:
        """Whether so many completions are awaited that nothing new should be begun; what was begun goes on."""
        return len(self._awaited) + len(self._late) >= self._limits.storage_actions_max

    @property
    def is_idle(self) -> bool:
        """Whether no completion is awaited, a late one included."""
        return not self._awaited and not self._late

    def issue(self, handler: Handler, late: Handler, now: Moment) -> int:
        """Return a token for an action.

        Args:
            handler: gets the completion, or :class:`StorageFailed` at the deadline.
            late: gets a completion that comes after the deadline.
            now: the present.
        """
        self._tokens += 1
        self._awaited[self._tokens] = (now.mono_ms + self._limits.storage_ms, handler, late)
        return self._tokens

    def complete(self, completion: Completion, now: Moment) -> list[Action]:
        """Hand a completion to whoever waits for it.

        Raises:
            LocalError: the token was never issued, or was completed before: a bug of the runner.
        """
        awaited = self._awaited.pop(completion.token, None)
        if awaited is not None:
            return awaited[1](completion, now)
        late = self._late.pop(completion.token, None)
        if late is None:
            raise LocalError(f"token {completion.token} of {type(completion).__name__} is not awaited")
        return late(completion, now)

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Give up on what is overdue."""
        actions: list[Action] = []
        while self._awaited:
            token, (deadline_ms, handler, late) = next(iter(self._awaited.items()))
            if deadline_ms > now.mono_ms:
                break
            del self._awaited[token]
            self._late[token] = late
            actions += handler(StorageFailed(token, "no completion in time"), now)
        return actions

    def next_timeout(self) -> int | None:
        """Return the deadline of the oldest action, in ``mono_ms``, or None."""
        for deadline_ms, _, _ in self._awaited.values():
            return deadline_ms
        return None
