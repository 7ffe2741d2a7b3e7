"""What the silo does from time to time: delete what expired, and look for deferred messages that are due."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from msilo_core.actions import Action, Completion, Due, Expire, Expired, Remind
from msilo_core.clock import Deadlines, Moment
from msilo_core.desk import Desk
from msilo_core.limits import Limits
from msilo_core.parameters import SiloConfig
from msilo_core.statistics import Statistics
from msilo_core.uri import Aor

__all__ = ["Housekeeping"]

Job: TypeAlias = Literal["clean", "remind"]


class Housekeeping:
    """The rounds of one engine. The next one of a kind waits for the store's answer to the last.

    Args:
        config: the parameters of msilo.
        limits: bounds.
        desk: where completions are awaited.
        statistics: counted in.
        deliver: begins to deliver what is due to an owner.
        now: the present.
    """

    def __init__(
        self,
        config: SiloConfig,
        limits: Limits,
        desk: Desk,
        statistics: Statistics,
        deliver: Callable[[Aor, Moment], list[Action]],
        now: Moment,
    ) -> None:
        self._limits = limits
        self._desk = desk
        self._statistics = statistics
        self._deliver = deliver
        self._unregistered = bool(config.outbound_proxy)
        self._interval_ms: dict[Job, int] = {"clean": config.check_time * config.clean_period * 1000}
        if config.send_time:
            self._interval_ms["remind"] = config.send_time * 1000
        self._deadlines: Deadlines[Job] = Deadlines()
        self._closing = False
        for job in self._interval_ms:
            self._arm(job, now)

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Begin the rounds that are due."""
        return [
            self._clean(now) if job == "clean" else self._remind(now) for job in self._deadlines.pop_due(now.mono_ms)
        ]

    def next_timeout(self) -> int | None:
        """Return when the next round is due, in ``mono_ms``, or None."""
        return self._deadlines.next_ms()

    def close(self) -> None:
        """Begin no further round."""
        self._closing = True
        for job in self._interval_ms:
            self._deadlines.disarm(job)

    def _arm(self, job: Job, now: Moment) -> None:
        if not self._closing:
            self._deadlines.arm(job, now.mono_ms + self._interval_ms[job])

    def _clean(self, now: Moment) -> Action:
        return Expire(self._desk.issue_patiently(self._expired), now.unix_ms)

    def _expired(self, completion: Completion, now: Moment) -> list[Action]:
        if not isinstance(completion, Expired):
            self._statistics.storage_failures += 1
        else:
            self._statistics.expired_messages += completion.messages
            if completion.messages and not self._closing:
                # A store deletes so many at a time that nobody waits for it long; there may be more.
                return [self._clean(now)]
        self._arm("clean", now)
        return []

    def _remind(self, now: Moment) -> Action:
        token = self._desk.issue_patiently(self._reminded)
        return Remind(token, now.unix_s, self._limits.reminders_max, self._unregistered)

    def _reminded(self, completion: Completion, now: Moment) -> list[Action]:
        actions: list[Action] = []
        if not isinstance(completion, Due):
            self._statistics.storage_failures += 1
        elif not self._closing:
            for owner in completion.owners:
                actions += self._deliver(owner, now)
        self._arm("remind", now)
        return actions
