"""What goes on at a server while its store breaks, and what must be so afterwards."""

import random
import time
from types import TracebackType
from typing import Final, Self

from tests.faults.people import Answer, Person, Phone, Prober, Sender, pump, wait
from tests.runners.peer import Address
from tests.runners.tables import execute

__all__ = ["SETTINGS", "Traffic"]

SETTINGS: Final = '[server]\ntrust = ["127.0.0.1/32"]\ndomain = ["example.com"]\n'
"""What the server must be told, for there to be strangers."""

# Beginning of what is settled or leased anew is tried every two seconds, and a database may be in recovery.
_IN_THE_END_S = 60.0

_PACE_S = 0.004


class Traffic:
    """Two who write, one to owners who are there and one to owners who come at the end, and somebody who is refused.

    Attributes:
        people: all of them, for :func:`tests.faults.people.pump`.
    """

    def __init__(self, server: Address, chance: random.Random) -> None:
        there, away = ([f"{word}{n}" for n in range(3)] for word in ("there", "away"))
        self._there = Phone(server, owners=there, chance=chance, refresh_s=0.5)
        self._away = Phone(server, owners=away, chance=chance)
        self._senders = [
            Sender(server, there, name="alice", window=16, every_s=_PACE_S),
            Sender(server, away, name="carol", window=16, every_s=_PACE_S),
        ]
        self._prober = Prober(server)
        self.people: list[Person] = [*self._senders, self._there, self._away, self._prober]
        self._there.register()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for sender in self._senders:
            sender.__exit__(exc_type, exc, traceback)
        for phone in (self._there, self._away):
            phone.__exit__(exc_type, exc, traceback)
        self._prober.__exit__(exc_type, exc, traceback)

    @property
    def answers(self) -> dict[bytes, Answer]:
        """What became of each MESSAGE, by its body."""
        return self._senders[0].answers | self._senders[1].answers

    @property
    def registrations(self) -> list[Answer]:
        """What became of each REGISTER."""
        return self._there.registrations + self._away.registrations

    def until_served(self, within_s: float = 30.0) -> float:
        """Let everybody go on until each sender has had something accepted that was begun after now.

        Returns:
            How many seconds that took.
        """
        since = time.monotonic()
        pump(self.people, lambda: all(_is_answered(sender, (200, 202), since) for sender in self._senders), within_s)
        return time.monotonic() - since

    def until_refused(self, within_s: float = 60.0) -> None:
        """Let everybody go on until a sender has been told to come back later."""
        since = time.monotonic()
        pump(self.people, lambda: any(_is_answered(sender, (503,), since) for sender in self._senders), within_s)

    def finish(self, storage: str) -> None:
        """Let all that was accepted arrive, and check that it did: each once on the screen, nothing left over."""
        for sender in self._senders:
            sender.is_writing = False
        pump(self.people, lambda: all(sender.is_done for sender in self._senders))
        self._away.register()
        accepted = {body for body, answer in self.answers.items() if answer.status in (200, 202)}
        pump(self.people, lambda: accepted <= {*self._there.screen, *self._away.screen}, _IN_THE_END_S)
        until = time.monotonic() + _IN_THE_END_S
        # All that an outcome was not recorded of is recorded in the end.
        while left := execute(storage, "SELECT * FROM silo ORDER BY id"):
            assert time.monotonic() < until, f"still stored: {left}"
            wait(self.people, 0.2)
        for phone in (self._there, self._away):
            assert len(phone.screen) == len(set(phone.screen)), "twice on the screen"
            assert not phone.crowded

    def check(self, soon_s: float) -> None:
        """Check that everybody had an answer, and `soon_s` after the request at the latest."""
        messages, registrations = list(self.answers.values()), self.registrations
        probes = [answer for _, answer in self._prober.answers]
        assert {answer.status for answer in messages} <= {200, 202, 503}
        assert {answer.status for answer in registrations} <= {200, 503}
        assert self._prober.wrong == []
        refused = [answer for answer in messages + registrations if answer.status == 503]
        assert all(answer.retry_after for answer in refused)
        late = [answer for answer in messages + registrations + probes if answer.took_s > soon_s]
        assert late == []
        shown = {*self._there.screen, *self._away.screen}
        print(
            f"{len(messages)} MESSAGEs: {sum(answer.status != 503 for answer in messages)} accepted, lost 0, on the"
            f" screen twice 0, on the wire again {self._there.repeats + self._away.repeats};"
            f" 503 {sum(answer.status == 503 for answer in messages)},"
            f" of which {sum(self.answers[body].status == 503 for body in shown)} arrived all the same;"
            f" {len(registrations)} REGISTERs: 503 {sum(answer.status == 503 for answer in registrations)};"
            f" {len(probes)} others as always;"
            f" slowest answer {_slowest(messages):.2f} s to MESSAGE, {_slowest(registrations):.2f} s to REGISTER,"
            f" {_slowest(probes):.2f} s to others"
        )


def _is_answered(sender: Sender, statuses: tuple[int, ...], since: float) -> bool:
    # The newest are the last.
    newest = list(sender.answers.values())[-50:]
    return any(answer.status in statuses and answer.began > since for answer in newest)


def _slowest(answers: list[Answer]) -> float:
    return max((answer.took_s for answer in answers), default=0.0)
