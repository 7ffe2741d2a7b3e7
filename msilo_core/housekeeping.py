"""What the silo does from time to time: delete what expired, and look for messages that are due."""

from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

from msilo_core.actions import Action, Completion, Due, Expire, Expired, Remind, Retry
from msilo_core.clock import Deadlines, Moment
from msilo_core.config import Config
from msilo_core.desk import Desk
from msilo_core.limits import Limits
from msilo_core.nexthop import NextHop
from msilo_core.reports import Reports
from msilo_core.statistics import Statistics
from msilo_core.uri import Aor

__all__ = ["Housekeeping"]

# Until what expired before has been told of: at most a thousand senders a second.
_PAUSE_MS: Final = 100

Job: TypeAlias = Literal["clean", "remind", "retry"]


class Housekeeping:
    """The rounds of one engine. The next one of a kind waits for the store's answer to the last.

    Args:
        config: how often, and the name of this node.
        pause_s: how long what is due is left to the node that looked for it first.
        limits: bounds.
        desk: where completions are awaited.
        statistics: counted in.
        deliver: begins to deliver what is due to an owner.
        reports: tells senders what expired.
        next_hop: the outbound proxy, or None.
        now: the present.
    """

    def __init__(
        self,
        config: Config,
        pause_s: int,
        limits: Limits,
        desk: Desk,
        statistics: Statistics,
        deliver: Callable[[Aor, Moment], list[Action]],
        reports: Reports,
        next_hop: NextHop | None,
        now: Moment,
    ) -> None:
        self._limits = limits
        self._desk = desk
        self._statistics = statistics
        self._deliver = deliver
        self._reports = reports
        self._node = config.node
        self._pause_s = pause_s
        silo = config.silo
        self._next_hop = next_hop
        self._has_others = config.worker.count > 1
        self._interval_ms: dict[Job, int] = {
            "clean": silo.check_time * silo.clean_period * 1000,
            "retry": config.delivery.retry_look_s * 1000,
        }
        if silo.send_time:
            self._interval_ms["remind"] = silo.send_time * 1000
        self._deadlines: Deadlines[Job] = Deadlines()
        self._closing = False
        for job in self._interval_ms:
            self._arm(job, now)

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Begin the rounds that are due."""
        actions: list[Action] = []
        for job in self._deadlines.pop_due(now.mono_ms):
            actions += self._begin(job, now)
        return actions

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

    def _begin(self, job: Job, now: Moment) -> list[Action]:
        if job == "clean":
            return self._clean(now)
        return [self._remind(now)] if job == "remind" else self._retry(now)

    def _clean(self, now: Moment) -> list[Action]:
        if self._reports.is_busy:
            self._deadlines.arm("clean", now.mono_ms + _PAUSE_MS)
            return []
        return [Expire(self._desk.issue_patiently(self._expired), now.unix_ms)]

    def _expired(self, completion: Completion, now: Moment) -> list[Action]:
        actions: list[Action] = []
        if not isinstance(completion, Expired):
            self._statistics.storage_failures += 1
        else:
            self._statistics.expired_messages += completion.messages - completion.taken
            for message in completion.untold:
                actions += self._reports.failed(message, now)
            if completion.messages and not self._closing:
                # A store deletes so many at a time that nobody waits for it long; there may be more.
                return actions + self._clean(now)
        self._arm("clean", now)
        return actions

    def _remind(self, now: Moment) -> Action:
        token = self._desk.issue_patiently(partial(self._looked, "remind"))
        # Longer than until each node has looked.
        pause_s = self._pause_s + self._interval_ms["remind"] // 1000
        return Remind(token, now.unix_s, self._node, self._limits.reminders_max, pause_s, self._next_hop is not None)

    def _retry(self, now: Moment) -> list[Action]:
        if self._has_others and self._next_hop is not None and self._next_hop.flow is None:
            # What it takes others do not get for a while, and it could not send it: other workers may know the way.
            self._arm("retry", now)
            return []
        token = self._desk.issue_patiently(partial(self._looked, "retry"))
        is_by_proxy = self._next_hop is not None
        return [Retry(token, now.unix_s, self._node, self._limits.retries_max, self._pause_s, is_by_proxy)]

    def _looked(self, job: Job, completion: Completion, now: Moment) -> list[Action]:
        actions: list[Action] = []
        if not isinstance(completion, Due):
            self._statistics.storage_failures += 1
        elif not self._closing:
            for owner in completion.owners:
                actions += self._deliver(owner, now)
        self._arm(job, now)
        return actions
