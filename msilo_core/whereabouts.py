"""Where the owner of an inbox is, and how a MESSAGE reaches him."""

from collections.abc import Callable, Container, Sequence
from functools import partial

from msilo_core.actions import Action, Binding, Completion, LookedUp, StorageFailed, Unbind, Unbound
from msilo_core.clock import Moment
from msilo_core.config import Config
from msilo_core.desk import Desk
from msilo_core.errors import LocalError
from msilo_core.flow import Flow
from msilo_core.inbox import Inbox
from msilo_core.nexthop import NextHop
from msilo_core.statistics import Statistics
from msilo_core.targets import Target, capable, device_of, target_of
from msilo_core.uri import Aor

__all__ = ["Whereabouts"]


class Whereabouts:
    """What one node makes of the bindings of an inbox.

    Args:
        config: its name, and which others hand on for it.
        desk: where completions are awaited.
        next_hop: the outbound proxy that stored messages go to, or None.
        statistics: counted in.
        is_open: whether a stream is open.
    """

    def __init__(
        self,
        config: Config,
        desk: Desk,
        next_hop: NextHop | None,
        statistics: Statistics,
        is_open: Callable[[Flow], bool],
    ) -> None:
        self._config = config
        self._desk = desk
        self._next_hop = next_hop
        self._statistics = statistics
        self._is_open = is_open
        # What the store is being told to drop. It is told once: those who ask for the owner meanwhile are any number.
        self._dropping: set[tuple[Aor, str, int]] = set()

    def heard(self, inbox: Inbox, registrations: int, looked_up: LookedUp) -> list[Action]:
        """The store has said of whom it knows, as of the REGISTER of that number."""
        inbox.has_stored |= looked_up.waiting
        if inbox.registrations != registrations:
            return []
        inbox.bindings = looked_up.bindings
        actions: list[Action] = []
        for binding in looked_up.bindings:
            if binding.flow.is_stream and self._is_dead(binding):
                actions += self._unbind(inbox, binding)
        return actions

    def flow_failed(self, inbox: Inbox, contact: str) -> list[Action]:
        """A contact is not reached any more (430, RFC 5626 section 5.3): drop its binding."""
        actions: list[Action] = []
        for binding in inbox.bindings:
            if binding.contact == contact:
                actions += self._unbind(inbox, binding)
        return actions

    def idle_targets(self, inbox: Inbox, now: Moment) -> list[Target]:
        """Return how the contacts are reached that take MESSAGE and have none outstanding."""
        return self._targets(inbox, {contact for _, contact in inbox.busy}, now)

    def _targets(self, inbox: Inbox, busy: Container[str], now: Moment) -> list[Target]:
        alive = capable(inbox.bindings, now)
        targets = [target_of(binding, self._is_ours) for binding in alive if binding.contact not in busy]
        return [target for target in targets if target is not None]

    def devices(self, inbox: Inbox, targets: Sequence[Target]) -> dict[str, Target]:
        """Return how each device is reached best, of all that are reached at `targets`."""
        bindings = {binding.contact: binding for binding in inbox.bindings}
        found: dict[str, Target] = {}
        for target in targets:
            found.setdefault(device_of(bindings[target.contact]), target)
        return found

    def stored_targets(self, inbox: Inbox, now: Moment) -> list[Target]:
        """Return where a stored message goes: to the contacts, or by way of the outbound proxy."""
        return self._stored_targets(inbox, {contact for _, contact in inbox.busy}, now)

    def is_all(self, inbox: Inbox, target: Target, now: Moment) -> bool:
        """Say whether a stored message goes to this target and to no other, be it busy or not."""
        return self._stored_targets(inbox, (), now) == [target]

    def _stored_targets(self, inbox: Inbox, busy: Container[str], now: Moment) -> list[Target]:
        if self._next_hop is None:
            return self._targets(inbox, busy, now)
        owner = str(inbox.owner)
        # Of somebody whom only the proxy knows there are no bindings here.
        flow = inbox.bindings[0].flow if inbox.bindings else self._next_hop.flow
        if owner in busy or flow is None or (inbox.bindings and not capable(inbox.bindings, now)):
            return []
        way, request_uri, route = self._next_hop.towards(owner, flow)
        return [Target(owner, request_uri, way, route)]

    def renewed(self, inbox: Inbox, expires_s: int | None, target: Target, now: Moment) -> Target | None:
        """See :class:`~msilo_core.fork.Fork`: the owner's devices change, and the message may run out."""
        if expires_s is not None and expires_s <= now.unix_s:
            return None
        for binding in capable(inbox.bindings, now):
            if binding.contact == target.contact:
                return target_of(binding, self._is_ours)
        return None

    def is_known_to_proxy_alone(self, inbox: Inbox) -> bool:
        """Say whether the outbound proxy may know where the owner is, of whom nothing is known here."""
        return self._next_hop is not None and not inbox.bindings

    def _is_ours(self, binding: Binding) -> bool:
        # Connections are numbered anew by each server. Whether one of another worker is open that one knows.
        if binding.node == self._config.node:
            return self._is_open(binding.flow)
        return self._config.is_worker(binding.node)

    def _is_dead(self, binding: Binding) -> bool:
        """Say whether a binding leads nowhere: by a connection to us alone, which is gone."""
        is_gone = binding.node == self._config.node and not self._is_open(binding.flow)
        return is_gone and target_of(binding, self._is_ours) is None

    def _unbind(self, inbox: Inbox, binding: Binding) -> list[Action]:
        inbox.bindings = tuple([other for other in inbox.bindings if other.contact != binding.contact])
        dropped = (inbox.owner, binding.contact, binding.updated_ms)
        if dropped in self._dropping:
            return []
        self._dropping.add(dropped)
        token = self._desk.issue_patiently(partial(self._unbound, dropped))
        return [Unbind(token, *dropped)]

    def _unbound(self, dropped: tuple[Aor, str, int], completion: Completion, _now: Moment) -> list[Action]:
        self._dropping.discard(dropped)
        if isinstance(completion, StorageFailed):
            # Whoever meets it next finds the same.
            self._statistics.storage_failures += 1
        elif not isinstance(completion, Unbound):
            raise LocalError(f"{type(completion).__name__} does not answer Unbind")
        return []
