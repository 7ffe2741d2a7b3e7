"""Messages, bindings and actions for tests of stores, with everything that a test does not care about filled
in."""

from itertools import count

import msgspec

from msilo_core.actions import (
    Bind,
    Binding,
    Due,
    Dump,
    Dumped,
    Expire,
    LookUp,
    Message,
    Outcome,
    Refused,
    Remind,
    Renew,
    Renewed,
    Retry,
    Settle,
    Settled,
    Store,
    Stored,
    Unbind,
)
from msilo_core.flow import Flow
from msilo_core.uri import Aor
from msilo_storage import Storage, TableNames

__all__ = [
    "BOB",
    "CAROL",
    "EVERY_OCTET",
    "HOSTILE_NAMES",
    "NOW_MS",
    "NOW_S",
    "append",
    "bind",
    "binding",
    "dump",
    "every_kind_of_work",
    "message",
    "remind",
    "renew",
    "retry",
    "settle",
    "stores",
    "take",
]

BOB = Aor("bob", "example.com")
CAROL = Aor("carol", "example.com")

NOW_S = 1_800_000_000
NOW_MS = NOW_S * 1000

EVERY_OCTET = bytes(range(256))

HOSTILE_NAMES = TableNames(
    table="order",
    id="n",
    src_addr="from",
    dst_addr="to",
    username="domain",
    domain="username",
    inc_time="now_ms",
    exp_time="expires",
    snd_time="node",
    ctype="given",
    body="outcome",
    extra_hdrs="SELECT",
    callid="contact",
    status="is_free",
)
"""Words of SQL, names that our statements use themselves, and two that were exchanged."""

_tokens = count(1)


def message(n: int = 1, owner: Aor = BOB, **changes: object) -> Message:
    """The `n`-th message to `owner`; it expires 1,000 s from now."""
    plain = Message(
        owner=owner,
        src_addr="sip:alice@example.com",
        dst_addr=str(owner),
        inc_time_s=NOW_S,
        exp_time_s=NOW_S + 1000,
        ctype="text/plain",
        body=f"message {n}".encode(),
        callid=f"{n}@alice.example.com",
        cseq=1,
        from_tag="a73kszlfl",
    )
    return msgspec.structs.replace(plain, **changes)


def stores(*messages: Message, messages_max: int = 0, bytes_max: int = 0, sender_messages_max: int = 0) -> list[Store]:
    return [Store(next(_tokens), message, messages_max, bytes_max, sender_messages_max) for message in messages]


async def append(store: Storage, *messages: Message) -> list[int]:
    """Store messages; return their numbers."""
    answers = await store.append(stores(*messages))
    numbers: list[int] = []
    for answer in answers:
        assert isinstance(answer, Stored)
        numbers.append(answer.message_id)
    return numbers


async def dump(
    store: Storage,
    owner: Aor = BOB,
    *,
    node: str = "one",
    now_ms: int = NOW_MS,
    lease_ms: int = 10_000,
    is_early: bool = True,
    messages_max: int = 100,
    devices: tuple[str, ...] = (),
) -> Dumped:
    """Lease messages of one owner."""
    asked = Dump(next(_tokens), owner, messages_max, node, now_ms, lease_ms, is_early, devices)
    (answer,) = await store.dump([asked])
    assert isinstance(answer, Dumped)
    return answer


async def settle(
    store: Storage,
    message_id: int,
    outcome: Outcome = Outcome.DELIVERED,
    *,
    owner: Aor = BOB,
    node: str = "one",
    status: int = 0,
    reason: str = "",
    next_time_s: int = 0,
) -> bool:
    """Settle one message; return whether it was ours."""
    told = Settle(next(_tokens), owner, message_id, node, outcome, status, reason, next_time_s)
    (answer,) = await store.settle([told])
    assert isinstance(answer, Settled)
    return not answer.lost


async def take(
    store: Storage,
    message_id: int,
    devices: str = "",
    *,
    node: str = "one",
    next_time_s: int = 0,
    until_s: int = NOW_S + 500,
    is_late: bool = False,
) -> bool:
    """Settle one message of Bob's that devices took; return whether it was there."""
    told = Settle(
        next(_tokens), BOB, message_id, node, Outcome.TAKEN,
        next_time_s=next_time_s, taken_by=devices, until_s=until_s, is_late=is_late,
    )  # fmt: skip
    (answer,) = await store.settle([told])
    assert isinstance(answer, Settled)
    return not answer.lost


async def renew(
    store: Storage, *message_ids: int, owner: Aor = BOB, node: str = "one", lease_ms: int = 10_000
) -> tuple[int, ...]:
    """Renew leases; return those that run on."""
    (answer,) = await store.renew([Renew(next(_tokens), owner, message_ids, node, lease_ms)])
    assert isinstance(answer, Renewed)
    return answer.message_ids


async def retry(
    store: Storage,
    *,
    now_s: int = NOW_S,
    node: str = "one",
    owners_max: int = 100,
    pause_s: int = 30,
    unregistered: bool = False,
) -> tuple[Aor, ...]:
    """Return owners whose messages are to be tried again."""
    (answer,) = await store.retry([Retry(next(_tokens), now_s, node, owners_max, pause_s, unregistered)])
    assert isinstance(answer, Due)
    return answer.owners


async def remind(
    store: Storage,
    *,
    now_s: int = NOW_S,
    node: str = "one",
    owners_max: int = 100,
    pause_s: int = 90,
    unregistered: bool = False,
) -> tuple[Aor, ...]:
    """Return owners whose deferred messages are due."""
    (answer,) = await store.remind([Remind(next(_tokens), now_s, node, owners_max, pause_s, unregistered)])
    assert isinstance(answer, Due)
    return answer.owners


def binding(contact: str = "sip:bob@192.0.2.1", **changes: object) -> Binding:
    """A binding that expires 1,000 s from now."""
    plain = Binding(
        contact=contact,
        expires_s=NOW_S + 1000,
        callid="registration",
        cseq=1,
        flow=Flow("udp", ("192.0.2.100", 5060), ("192.0.2.1", 5060)),
        node="one",
        updated_ms=NOW_MS,
    )
    return msgspec.structs.replace(plain, **changes)


def bind(*contacts: Binding, owner: Aor = BOB, cseq: int = 1, **changes: object) -> Bind:
    """A REGISTER."""
    plain = Bind(next(_tokens), owner, NOW_S, "registration", cseq, contacts)
    return msgspec.structs.replace(plain, **changes)


async def every_kind_of_work(store: Storage, *, weigh: bool = True) -> None:
    """Find, change and delete a few rows of Bob's; of what else there is, only some that were set aside.

    Args:
        store: an open store.
        weigh: with the bounds that all of an inbox is looked at for: its octets, and what is of one sender.
    """
    first, second, _ = await append(store, message(1), message(2, exp_time_s=NOW_S, imdn=1), message(1))
    assert [type(answer) for answer in await store.append(stores(message(3), messages_max=2))] == [Refused]
    weighed = stores(message(3), bytes_max=1, sender_messages_max=2)
    assert not weigh or [type(answer) for answer in await store.append(weighed)] == [Refused]
    await store.bind([bind(binding()), bind(binding(expires_s=NOW_S), cseq=2)])
    for expires_s in (NOW_S + 1000, NOW_S):
        await store.bind([bind(binding(expires_s=expires_s), owner=CAROL)])
    await store.look_up([LookUp(next(_tokens), BOB, NOW_S)])
    page = (await dump(store, messages_max=3)).messages
    await renew(store, *(leased.message_id for leased in page))
    for leased in page:
        assert await settle(store, leased.message_id, Outcome.FAILED)
    await store.expire([Expire(next(_tokens), NOW_MS)])
    await store.remind([Remind(next(_tokens), NOW_S - 1500, "one", 10, 90)])
    await store.retry([Retry(next(_tokens), NOW_S - 1500, "one", 10, 30)])
    await store.unbind([Unbind(next(_tokens), BOB, "sip:bob@192.0.2.9", 0)])
    await store.list(str(BOB), limit=3, dead=True)
    await store.list(limit=3, dead=True)
    assert await store.find(first) is not None
    await store.requeue([first, second])
    await store.requeue(limit=3)
    await store.requeue(owner=str(BOB), limit=3)
    await store.purge([first, second])
    await store.purge(limit=3)
    await store.purge(owner=str(BOB), limit=3)
    assert await settle(store, first, Outcome.WITHDRAWN)
    assert not await settle(store, second, Outcome.WITHDRAWN)
