"""The messages of a story: what they look like when they leave, and what must be left of that when they arrive."""

import random
from datetime import UTC, datetime
from typing import Final

from tests.sim.scenario import LetterPlan
from tests.sim.wire import Address, Key, Wire, via

__all__ = ["DATED_S", "DOMAIN", "EPOCH_MS", "Letter"]

DOMAIN: Final = "example.com"

EPOCH_MS: Final = 1_790_000_000_000
"""When each story begins: 2026-09-21T14:13:20Z."""

DATED_S: Final = EPOCH_MS // 1000 - 20
"""What a Date says, where there is one."""

_FORMS: Final = (
    "text/plain",
    "text/plain;charset=UTF-8",
    'text/html; charset="utf-8"; x="a;b\\"c"',
    "application/octet-stream",
    "message/cpim",
    "multipart/mixed;boundary=b",
    "",
)
_HEADERS: Final = (
    "Subject: Grüße; aus, Köln",
    "X-Odd:   kept  as it is",
    "Reply-To: <sip:elsewhere@127.0.9.9:5099>",
    "Content-Encoding: identity",
    "Content-Disposition: render",
    "Organization: first\r\n and the second line",
    "X-Twice: 1\r\nX-Twice: 2",
    "k: pref",
    "Priority: urgent",
    "In-Reply-To: some@where",
)
_BODIES: Final = (b"hello ", "Grüße ".encode(), b"\0\xff\xfe\r\n\r\n", b"MESSAGE sip:x@y SIP/2.0\r\n\r\n", b"\r\n")

# Of the hop, or written anew for it.
_OF_THE_HOP: Final = frozenset({"via", "max-forwards", "max-breadth", "route", "record-route", "content-length"})


class Letter:
    """One message, from its sender's first try on.

    Attributes:
        plan: what was planned.
        key: its identity.
        is_accepted: its sender was told 2xx.
        statuses: final statuses that its sender was told, 0 for none in time.
        screens: names of the phones that showed it, with the number of the phone's life.
        lines: headers that go from end to end.
        body: octets.
    """

    def __init__(self, plan: LetterPlan) -> None:
        self.plan = plan
        source = random.Random(plan.kind)
        self.key: Key = (f"call{plan.number}@{plan.sender}", source.choice((1, 7, 2**31 - 1)), f"t{plan.number}")
        self.is_accepted = False
        self.statuses: list[int] = []
        self.screens: set[tuple[str, int]] = set()
        filler = source.choice(_BODIES)
        self.body = (b"%d " % plan.number + filler * (plan.size // len(filler))) if plan.size else b""
        name = source.choice(("", '"A, B" ', '"Müller" '))
        # A recipient is whom the Request-URI names: To is the sender's to write.
        to_uri = source.choice((f"sip:{plan.owner}@{DOMAIN}",) * 2 + ("sip:anybody@127.0.9.9:5099",))
        self.lines = [
            f"From: {name}<sip:{plan.sender}@{DOMAIN}>;tag={self.key[2]}",
            f"To: <{to_uri}>",
            f"Call-ID: {self.key[0]}",
            f"CSeq: {self.key[1]} MESSAGE",
            f"X-Letter: {plan.number}",
            *source.sample(_HEADERS, source.choice((0, 0, 1, 3))),
        ]
        if plan.expires_s is not None:
            self.lines.append(f"Expires: {plan.expires_s}")
        if plan.is_dated:
            self.lines.append("Date: Mon, 21 Sep 2026 14:13:00 GMT")
        if plan.due_s:
            due = datetime.fromtimestamp(EPOCH_MS // 1000 + plan.due_s, UTC)
            self.lines.append(f"X-Deliver-At: {due:%Y%m%d%H%M%S}")
        ctype = source.choice(_FORMS) if self.body else ""
        if ctype:
            self.lines.append(f"{source.choice(('Content-Type', 'c'))}: {ctype}")
        self._known = _by_key(self.lines)

    @property
    def name(self) -> str:
        """Name for the trace."""
        return f"message {self.plan.number}"

    def octets(self, transport: str, address: Address, branch: str) -> bytes:
        """Return the request as its sender sends it."""
        head = [
            f"MESSAGE sip:{self.plan.owner}@{DOMAIN} SIP/2.0",
            via(transport, address, branch),
            "Max-Forwards: 70",
            *self.lines,
            f"Content-Length: {len(self.body)}",
        ]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + self.body

    def difference(self, wire: Wire) -> str:
        """Say what of it has changed on the way; empty if nothing has."""
        if wire.body != self.body:
            return f"the body is {wire.body[:40]!r} and was {self.body[:40]!r}"
        found = _by_key([f"{key}: {value}" for key, value in wire.lines if key not in _OF_THE_HOP])
        if "date" not in self._known:
            # Whoever keeps it writes down when it came (RFC 3428 section 7).
            found.pop("date", None)
        for key in {**self._known, **found}:
            if found.get(key) != self._known.get(key):
                return f"{key} is {found.get(key)} and was {self._known.get(key)}"
        return ""


def _by_key(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in "\r\n".join(lines).replace("\r\n ", "\0").split("\r\n"):
        name, _, value = line.partition(":")
        key = {"c": "content-type", "k": "supported"}.get(name.lower(), name.lower())
        found.setdefault(key, []).append(value.strip().replace("\0", "\r\n "))
    return found
