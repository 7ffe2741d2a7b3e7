"""A route that does what a request says, as an operator's may do anything: functions in any order, none, or a bug."""

from collections.abc import Callable
from typing import Final

from fuzz.peers import USERS
from msilo_core import Call, ServerRoute

__all__ = ["SKIP_FLAG", "Scripted"]

SKIP_FLAG: Final = 7
"""Number of the flag that keeps a message from causing a notification."""


class Scripted(ServerRoute):
    """The server's own route, but where the words of ``X-Route`` or ``X-Failure-Route`` say something else."""

    def request_route(self, call: Call) -> None:
        """Do what ``X-Route`` says."""
        if not _told(call, "x-route"):
            super().request_route(call)

    def failure_route(self, call: Call) -> None:
        """Do what ``X-Failure-Route`` says."""
        if not _told(call, "x-failure-route"):
            super().failure_route(call)


def _told(call: Call, name: str) -> bool:
    """Carry out the words of a header; say whether there is one. What is not for us has no inbox that would open."""
    words = call.request.get(name)
    if words is None or not call.is_local:
        return False
    for word in words.split():
        function = _WORDS.get(word)
        if function is not None:
            function(call)
    return True


def _store(call: Call) -> None:
    if not call.m_store():
        call.reply(call.status, call.reason)


def _copy(call: Call) -> None:
    call.m_store(str(USERS[2]))


def _dump(call: Call) -> None:
    call.m_dump(str(USERS[1]))


def _quiet(call: Call) -> None:
    call.flags.add(SKIP_FLAG)


def _headers(call: Call) -> None:
    call.avps["hdrs"] = "X-Mark: 1\r\nX-Mark: 2\r\n"


def _fail(_call: Call) -> None:
    raise ValueError("a bug of the operator's")


_WORDS: Final[dict[str, Callable[[Call], None]]] = {
    "store": _store,
    "copy": _copy,
    "dump": _dump,
    "relay": Call.relay,
    "forward": Call.forward,
    "save": Call.save,
    "pass": Call.pass_on,
    "refuse": lambda call: call.reply(403, "The Route Says So"),
    "quiet": _quiet,
    "headers": _headers,
    "fail": _fail,
}
