"""Storage actions that wait for their completions: the token of each, its deadline, and who wants the answer.

The runner owes exactly one completion for each token. Where the sender of a request waits for it there is a deadline:
whoever asked is told :class:`StorageFailed` then, once, and what the store still says goes to a second handler. What
nobody waits for, leases and outcomes, has none: asking again while the first is under way would only add to the load
of a store that hangs, and the two could overtake each other.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeAlias

from msilo_core.actions import Action, Completion, StorageFailed
from msilo_core.clock import Moment
from msilo_core.errors import LocalError
from msilo_core.limits import Limits

__all__ = ["Desk", "Handler"]

Handler: TypeAlias = Callable[[Completion, Moment], list[Action]]


class Desk:
    """Tokens under way. Deadlines are all equally long, so that they come in the order of issue."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tokens = 0
        # Taken from the front: a plain dict would walk over all that was deleted there before.
        self._awaited: OrderedDict[int, tuple[int, Handler, Handler]] = OrderedDict()
        self._patient: dict[int, Handler] = {}

    @property
    def is_full(self) -> bool:
        """Whether so many completions are awaited that no message should be begun; what was begun goes on."""
        return len(self._awaited) + len(self._patient) >= self._limits.storage_actions_max

    @property
    def is_overfull(self) -> bool:
        """Whether there are twice as many, so that nothing new at all should be begun."""
        return len(self._awaited) + len(self._patient) >= 2 * self._limits.storage_actions_max

    @property
    def is_idle(self) -> bool:
        """Whether no completion is awaited, a late one included."""
        return not self._awaited and not self._patient

    def issue(self, handler: Handler, late: Handler, now: Moment) -> int:
        """Return a token for an action that has ``storage_ms`` to be carried out.

        Args:
            handler: gets the completion, or :class:`StorageFailed` at the deadline.
            late: gets a completion that comes after the deadline.
            now: the present.
        """
        self._tokens += 1
        self._awaited[self._tokens] = (now.mono_ms + self._limits.storage_ms, handler, late)
        return self._tokens

    def issue_patiently(self, handler: Handler) -> int:
        """Return a token for an action whose completion is awaited however long it takes."""
        self._tokens += 1
        self._patient[self._tokens] = handler
        return self._tokens

    def complete(self, completion: Completion, now: Moment) -> list[Action]:
        """Hand a completion to whoever waits for it.

        Raises:
            LocalError: the token was never issued, or was completed before: a bug of the runner.
        """
        awaited = self._awaited.pop(completion.token, None)
        if awaited is not None:
            return awaited[1](completion, now)
        handler = self._patient.pop(completion.token, None)
        if handler is None:
            raise LocalError(f"token {completion.token} of {type(completion).__name__} is not awaited")
        return handler(completion, now)

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Give up on what is overdue."""
        actions: list[Action] = []
        while self._awaited:
            token, (deadline_ms, handler, late) = next(iter(self._awaited.items()))
            if deadline_ms > now.mono_ms:
                break
            del self._awaited[token]
            self._patient[token] = late
            actions += handler(StorageFailed(token, "no completion in time"), now)
        return actions

    def next_timeout(self) -> int | None:
        """Return the deadline of the oldest action, in ``mono_ms``, or None."""
        for deadline_ms, _, _ in self._awaited.values():
            return deadline_ms
        return None
