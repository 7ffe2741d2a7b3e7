"""What happens in a story, before anything has happened: who there is, what they do and when, and what goes wrong.

All of it is drawn from one number. It is data, so that a story can be written down, made shorter and told again.
"""

import random
from typing import Final, Literal, TypeAlias

import msgspec

__all__ = [
    "OPERATOR",
    "Event",
    "Fault",
    "LetterPlan",
    "NodePlan",
    "PhonePlan",
    "Role",
    "Scenario",
    "draw",
]

Role: TypeAlias = Literal["server", "silo", "deferred"]
"""Which route the nodes have: :class:`msilo_core.ServerRoute`, :class:`msilo_core.SiloRoute`, or the example that
defers what has a header ``X-Deliver-At``."""

Transport: TypeAlias = Literal["udp", "tcp"]


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A server that shares the store with the others.

    Attributes:
        name: ``n0``, …; each process that runs there has a name of its own in leases.
        skew_ms: how far its clock is ahead of the right time.
    """

    name: str
    skew_ms: int = 0


class PhonePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A device.

    Attributes:
        name: ``p0``, ….
        owner: whose it is.
        transport: how it registers, and is reached.
        manners: what it answers to a message that it has shown: ``merges``: 482 (RFC 3261 section 8.2.2.2);
            ``recognises``: 200.
        methods: those that it says it takes; empty: it says nothing, and takes MESSAGE.
        q: preference in thousandths.
        refresh_s: seconds between two REGISTERs.
        expires_s: lifetime of its binding.
        is_private: its Contact names an address that nobody can reach, as behind a NAT.
        has_instance: it names its instance, by which it is known when it moves (RFC 5626 section 4.1).
    """

    name: str
    owner: str
    transport: Transport = "udp"
    manners: Literal["merges", "recognises"] = "merges"
    methods: str = ""
    q: int = 1000
    refresh_s: int = 60
    expires_s: int = 600
    is_private: bool = False
    has_instance: bool = False


class LetterPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A message that somebody sends.

    Attributes:
        number: its name, and that of all that it holds.
        at_ms: when.
        sender: ``s0``, ….
        owner: to whom.
        kind: number of the form that it has, see :mod:`tests.sim.letters`.
        size: octets of its body, about.
        expires_s: value of Expires; None: no such header.
        is_dated: it has a Date.
        due_s: seconds from the beginning that it is deferred to; 0: not at all.
        tries: how often its sender sends it at most, where the server cannot take it or does not answer.
        poison: status that every phone gives it, always; 0: as the phone likes.
    """

    number: int
    at_ms: int
    sender: str
    owner: str
    kind: int = 0
    size: int = 20
    expires_s: int | None = None
    is_dated: bool = False
    due_s: int = 0
    tries: int = 3
    poison: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a phone or a node does by itself.

    Attributes:
        at_ms: when.
        kind: of a phone: ``on`` it registers; ``off`` it leaves; ``vanish`` its battery is empty, and it forgets;
            ``move`` it gets another address, and registers; ``break`` its connections end. Of a node: ``crash``,
            ``stop`` (gracefully), ``pause`` (it does nothing for a while), ``dump`` (the application asks for a
            delivery), ``step`` (its clock is set). Of the operator: ``requeue`` what was set aside, ``purge`` what was
            set aside or waits.
        who: name of the phone or the node, or ``operator``.
        ms: how long; until the node is back, for instance; how far its clock is ahead from then on.
        owner: of ``dump``, ``requeue`` and ``purge``.
    """

    at_ms: int
    kind: str
    who: str
    ms: int = 0
    owner: str = ""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong for some time.

    Attributes:
        kind: ``loss``, ``repeat``, ``delay`` of packets; ``cut``: nothing gets to or from somebody; ``answer``: a phone
            does not simply say 200; ``store fail``; ``store lost``: it is done, and said to have failed; ``store
            slow``; ``store row``: one action of a batch fails alone; ``store freeze``: it does and says nothing;
            ``store late``: it is said to have failed, and done later.
        from_ms: begin.
        to_ms: end.
        rate: part of all that is struck, where not all is.
        where: name of the node, phone or sender that it concerns; empty: all.
    """

    kind: str
    from_ms: int
    to_ms: int
    rate: float = 1.0
    where: str = ""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A story before it is told.

    Attributes:
        seed: all chance comes from it.
        role: what the nodes are.
        silo: parameters of msilo that are not the default's.
        delivery: settings of the delivery that are not, those in seconds.
        window: most messages outstanding to a phone by TCP, where one device is to have each message.
        devices: which devices are to have each message.
        limits: limits that are not.
        calm_ms: from here on nothing goes wrong, and every owner has a phone that takes what comes.
        only: names of the single faults that strike, where not all do that the rates give.
    """

    seed: int
    role: Role = "server"
    silo: dict[str, int | str] = {}
    delivery: dict[str, int] = {}
    window: int = 1
    devices: Literal["any", "each"] = "any"
    limits: dict[str, int] = {}
    calm_ms: int = 60_000
    nodes: tuple[NodePlan, ...] = ()
    phones: tuple[PhonePlan, ...] = ()
    letters: tuple[LetterPlan, ...] = ()
    events: tuple[Event, ...] = ()
    faults: tuple[Fault, ...] = ()
    only: tuple[str, ...] | None = None

    @property
    def owners(self) -> list[str]:
        """All who have a phone, in the order of their first."""
        return list(dict.fromkeys(phone.owner for phone in self.phones))


OPERATOR: Final = "operator"

_SMALL: Final = {
    "page_messages_max": (1, 2, 3),
    "deliveries_max": (1, 2),
    "waiting_per_owner_max": (1, 3),
    "finished_transactions_max": (2, 8),
    "server_transactions_max": (6, 12),
    # Fewer than contacts, and a message never gets to all of them.
    "client_transactions_max": (16, 24),
    "storage_actions_max": (8, 20),
    # Fewer than an owner's phones, and the one that takes MESSAGE may never be let in.
    "bindings_per_aor_max": (3, 4),
}
"""Limits that are soon reached, of which a story may have some."""

_NETWORK: Final = ("loss", "repeat", "delay")
_STORE: Final = ("store fail", "store lost", "store slow", "store row", "store late")


def draw(seed: int, letters: int = 0) -> Scenario:
    """Return the story of a seed.

    Args:
        seed: any number from 0 on.
        letters: how many messages; 0: 20 to 60.
    """
    source = random.Random(seed)
    calm_ms = source.choice((40_000, 80_000, 120_000, 200_000))
    role: Role = source.choice(("server", "server", "server", "server", "deferred", "silo"))
    is_skewed = source.random() < 0.4
    nodes = tuple(
        NodePlan(name=f"n{number}", skew_ms=_skew_ms(source) if is_skewed else 0)
        for number in range(source.choice((1, 1, 2, 2, 3)))
    )
    owners = [f"u{number}" for number in range(source.choice((1, 1, 2, 3)))]
    phones = _phones(source, owners)
    count = letters or source.randint(20, 60)
    delivery = _delivery(source)
    # One that is always answered 500 is tried 16 times, which takes hours where the pauses grow long.
    poisons = (404, 415, 488, 603, *([500] if delivery["retry_max"] < 900 else []))
    silo: dict[str, int | str] = {"check_time": source.choice((10, 30)), "clean_period": 1}
    if role == "deferred":
        silo |= {"snd_time_avp": "$avp(due)", "send_time": source.choice((2, 10))}
    if source.random() < 0.1:
        silo["max_messages"] = source.choice((2, 5, 10))
    if source.random() < 0.1:
        silo["max_messages_per_sender"] = source.choice((1, 3, 6))
    names = source.sample(sorted(_SMALL), source.randint(1, 5)) if source.random() < 0.3 else []
    # Of their own, so that all other chance of a seed is what it was.
    window = random.Random(f"window {seed}").choice((1, 1, 2, 5))
    of_devices = random.Random(f"devices {seed}")
    is_each = of_devices.random() < 0.4
    if is_each:
        delivery["device_window"] = of_devices.choice((20, 120, 600, 86_400))
        phones = tuple(msgspec.structs.replace(one, has_instance=of_devices.random() < 0.8) for one in phones)
    return Scenario(
        seed=seed,
        role=role,
        silo=silo,
        delivery=delivery,
        window=window,
        devices="each" if is_each else "any",
        limits={name: source.choice(_SMALL[name]) for name in names},
        calm_ms=calm_ms,
        nodes=nodes,
        phones=phones,
        letters=_letters(source, count, calm_ms, owners, role, poisons),
        events=(
            *_phone_events(source, phones, calm_ms),
            *_node_events(source, nodes, owners, calm_ms, is_skewed),
            *_operator_events(source, owners, calm_ms),
        ),
        faults=_faults(source, nodes, phones, calm_ms) if source.random() < 0.95 else (),
    )


def _skew_ms(source: random.Random) -> int:
    return source.choice((0, source.randint(-2_000, 2_000), source.randint(-60_000, 60_000), 300_000, -300_000))


def _delivery(source: random.Random) -> dict[str, int]:
    return {
        "lease": source.choice((3, 5, 15)),
        "retry_min": source.choice((1, 5)),
        "retry_max": source.choice((10, 30, 900)),
        "retry_look": source.choice((1, 5)),
    }


def _phones(source: random.Random, owners: list[str]) -> tuple[PhonePlan, ...]:
    phones: list[PhonePlan] = []
    for owner in owners:
        for number in range(source.choice((1, 1, 2, 3))):
            transport: Transport = source.choice(("udp", "udp", "udp", "tcp"))
            refresh_s = source.choice((15, 40, 90))
            phones.append(
                PhonePlan(
                    name=f"p{len(phones)}",
                    owner=owner,
                    transport=transport,
                    manners=source.choice(("merges", "recognises")),
                    methods="INVITE, ACK, BYE" if number and source.random() < 0.1 else "",
                    q=source.choice((1000, 1000, 500)),
                    refresh_s=refresh_s,
                    expires_s=source.choice((60, 120, 600)) if refresh_s < 60 else 600,
                    is_private=source.random() < 0.2,
                )
            )
    return tuple(phones)


def _letters(
    source: random.Random, count: int, calm_ms: int, owners: list[str], role: Role, poisons: tuple[int, ...]
) -> tuple[LetterPlan, ...]:
    bursts = [source.randrange(calm_ms) for _ in range(source.randint(1, 8))]
    senders = [f"s{number}" for number in range(source.randint(1, 4))]
    letters: list[LetterPlan] = []
    for number in range(count):
        at_ms = source.choice(bursts) + source.choice((0, source.randrange(50), source.randrange(4_000)))
        if source.random() < 0.3:
            at_ms = source.randrange(calm_ms)
        letters.append(
            LetterPlan(
                number=number,
                at_ms=at_ms,
                sender=source.choice(senders),
                owner=source.choice(owners),
                kind=source.randrange(1_000),
                size=source.choice((0, 10, 40, 200, 1_500)),
                expires_s=source.choice((0, 3, 15, 60, 600)) if source.random() < 0.15 else None,
                is_dated=source.random() < 0.2,
                due_s=(at_ms + source.randrange(1_000, 60_000)) // 1000 if _is_deferred(source, role) else 0,
                tries=source.choice((1, 2, 4, 6)),
                poison=source.choice(poisons) if source.random() < 0.03 else 0,
            )
        )
    return tuple(letters)


def _is_deferred(source: random.Random, role: Role) -> bool:
    return role == "deferred" and source.random() < 0.4


def _phone_events(source: random.Random, phones: tuple[PhonePlan, ...], calm_ms: int) -> tuple[Event, ...]:
    events: list[Event] = []
    for phone in phones:
        restless_ms = source.choice((10_000, 30_000, 60_000))
        at_ms = source.choice((0, source.randrange(calm_ms)))
        kind = "on"
        while at_ms < calm_ms:
            events.append(Event(at_ms=at_ms, kind=kind, who=phone.name))
            kind = source.choice(("on", "off", "vanish", "move", "break")) if kind == "on" else "on"
            at_ms += 100 + int(source.expovariate(1 / restless_ms))
    return tuple(events)


def _node_events(
    source: random.Random, nodes: tuple[NodePlan, ...], owners: list[str], calm_ms: int, is_skewed: bool
) -> tuple[Event, ...]:
    events: list[Event] = []
    kinds = ("crash", "crash", "stop", "pause", "dump", *(["step"] if is_skewed else []))
    for node in nodes:
        for _ in range(source.choice((0, 0, 1, 2, 3))):
            kind = source.choice(kinds)
            long_ms = {"pause": 5_000, "dump": 1}.get(kind, source.choice((500, 5_000, 60_000)))
            events.append(
                Event(
                    at_ms=source.randrange(calm_ms),
                    kind=kind,
                    who=node.name,
                    ms=_skew_ms(source) if kind == "step" else source.randint(1, long_ms),
                    owner=source.choice(owners) if kind == "dump" else "",
                )
            )
    return tuple(events)


def _operator_events(source: random.Random, owners: list[str], calm_ms: int) -> tuple[Event, ...]:
    if source.random() < 0.8:
        return ()
    return tuple(
        Event(
            at_ms=source.randrange(calm_ms),
            kind=source.choice(("requeue", "requeue", "purge")),
            who=OPERATOR,
            owner=source.choice(owners),
        )
        for _ in range(source.randint(1, 3))
    )


def _faults(
    source: random.Random, nodes: tuple[NodePlan, ...], phones: tuple[PhonePlan, ...], calm_ms: int
) -> tuple[Fault, ...]:
    faults: list[Fault] = []

    def add(kind: str, rate: float, where: str = "", long_ms: int = calm_ms) -> None:
        from_ms = source.choice((0, source.randrange(calm_ms)))
        to_ms = min(from_ms + source.randint(100, long_ms), calm_ms)
        faults.append(Fault(kind=kind, from_ms=from_ms, to_ms=to_ms, rate=rate, where=where))

    for kind in _NETWORK:
        if source.random() < 0.6:
            add(kind, source.choice((0.02, 0.1, 0.3)))
    for kind in _STORE:
        if source.random() < 0.35:
            where = source.choice(("", source.choice(nodes).name))
            add(kind, source.choice((0.03, 0.15, 0.5)), where)
    for _ in range(source.choice((0, 0, 1, 2))):
        add("store freeze", 1.0, source.choice(("", source.choice(nodes).name)), 30_000)
    for _ in range(source.choice((0, 0, 1, 2))):
        add("cut", 1.0, source.choice([*(node.name for node in nodes), *(phone.name for phone in phones)]), 50_000)
    if source.random() < 0.8:
        add("answer", source.choice((0.1, 0.3, 0.7)), source.choice(("", source.choice(phones).name)))
    return tuple(faults)
