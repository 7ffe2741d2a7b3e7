"""Routing policy: plain synchronous functions that decide what becomes of a request, as in Kamailio's script.

A route gets a :class:`Call` and says what is to happen by calling its methods; it does no I/O and may not wait. What
it asks for is carried out after it has returned, in the order it asked.

Two routes are ready: :class:`ServerRoute`, registrar, relay and silo in one, and :class:`SiloRoute`, which stores what
a proxy sends it and dumps on REGISTER.
"""

from collections.abc import Callable
from datetime import tzinfo
from typing import Any, ClassVar, Protocol

import msgspec

from msilo_core.actions import Action, Binding, Outcome
from msilo_core.clock import Moment
from msilo_core.errors import LimitError, ParseError, PeerError, Unsupported
from msilo_core.fields import Hop
from msilo_core.flow import Flow
from msilo_core.fork import Fork
from msilo_core.identity import asserted_identity
from msilo_core.imdn import Im
from msilo_core.message import Request, Response
from msilo_core.outcome import outcome_of
from msilo_core.pseudovars import AvpValue, parse_template
from msilo_core.transactions import ServerTransaction
from msilo_core.uri import Aor, parse_aor

__all__ = ["Call", "CallHandler", "Route", "ServerRoute", "SiloRoute"]


class Route(Protocol):
    """What a routing policy has to offer.

    Attributes:
        uses_location: whether the bindings of the owner of each MESSAGE are looked up before :meth:`request_route`
            is called. Without it `is_registered` is always False and `relay` cannot be used, and a query is saved.
    """

    uses_location: ClassVar[bool]

    def request_route(self, call: "Call") -> None:
        """A REGISTER or a MESSAGE for one of our domains, or a MESSAGE for any other."""
        ...

    def failure_route(self, call: "Call") -> None:
        """No contact took a MESSAGE that was relayed; `call.status` says why."""
        ...


class ServerRoute:
    """Registrar, relay and silo in one: deliver to whoever is registered, store for whoever is not."""

    uses_location: ClassVar[bool] = True

    def request_route(self, call: "Call") -> None:
        """Register, relay or store."""
        if not call.is_local:
            call.forward()
        elif call.method == "REGISTER":
            call.save()
        elif call.is_registered:
            call.relay()
        elif not call.m_store():
            call.reply(call.status, call.reason)

    def failure_route(self, call: "Call") -> None:
        """Store what may be delivered later; pass on what the phone refused."""
        statuses = call.statuses or (call.status,)
        # A 6xx is about the user, not about one phone (RFC 3261 section 21.6).
        if not call.is_local or call.status >= 600 or not any(map(_may_work_later, statuses)):
            call.pass_on()
        elif not call.m_store():
            call.reply(call.status, call.reason)


def _may_work_later(status: int) -> bool:
    # A redirection or a challenge is for the sender, who may do something about it.
    return status >= 400 and status not in (401, 407) and outcome_of(status, reached=0) is Outcome.FAILED


class SiloRoute:
    """Beside a proxy: a MESSAGE that is sent here is stored, a REGISTER lets the stored ones out."""

    uses_location: ClassVar[bool] = False

    def request_route(self, call: "Call") -> None:
        """Store or dump."""
        if not call.is_local:
            call.forward()
        elif call.method == "REGISTER":
            call.save()
        elif not call.m_store():
            call.reply(call.status, call.reason)

    def failure_route(self, call: "Call") -> None:
        """Pass on what the proxy for other domains answered."""
        call.pass_on()


class CallHandler(Protocol):
    """What carries out a call's wishes: the engine."""

    def call_reply(self, call: "Call", status: int, reason: str, now: Moment) -> list[Action]: ...

    def call_pass_on(self, call: "Call", response: Response, now: Moment) -> list[Action]: ...

    def call_failed(self, call: "Call", error: Exception, now: Moment) -> list[Action]: ...

    def call_relay(self, call: "Call", now: Moment) -> list[Action]: ...

    def call_forward(self, call: "Call", now: Moment) -> list[Action]: ...

    def call_save(self, call: "Call", now: Moment) -> list[Action]: ...

    def call_dump(self, call: "Call", owner: Aor, now: Moment) -> list[Action]:
        """Raises PeerError if nothing can be begun."""
        ...

    def call_store(self, call: "Call", owner: Aor, src_addr: str, dst_addr: str, now: Moment) -> list[Action]:
        """Raises PeerError if the message cannot be stored."""
        ...


class Call(msgspec.Struct, eq=False):
    """One request on its way through the route.

    Attributes:
        request: the request, as received.
        flow: the flow it came by.
        request_uri: the Request-URI, but where a strict router put it into Route.
        route: hops of Route behind those that led here.
        owner: whose inbox or bindings it is about: the Request-URI of a MESSAGE where that is an address of record,
            else its To URI; the To URI of a REGISTER. None if neither is one.
        is_local: whether `owner` is in a domain that is ours.
        user: who proved to have sent it; None for a request from a trusted peer, who is believed.
        zone: of the dates that pseudo-variables print.
        arrived: when the request came.
        now: when the route function was called.
        bindings: contacts of `owner` that are alive.
        statuses: in the failure route, the final status of each contact that was tried, 408 for one that gave none;
            empty where none was.
        status: in the failure route, the best status that came back; after a function returned False, the status that
            says why.
        reason: reason phrase for `status`; empty for the usual one.
        avps: attribute-value pairs, which `snd_time_avp`, `extra_hdrs_avp` and ``$avp(name)`` read: text or number by
            name.
        variables: what ``$var(name)`` reads.
        flags: numbers, 0 to 31, of the flags that are set; see `skip_notification_flag` and ``$mf``.
        is_decided: whether a route function has asked for something that answers the request.

    The remaining attributes are the engine's.
    """

    _handler: CallHandler
    transaction: ServerTransaction
    request: Request
    flow: Flow
    request_uri: str
    route: list[Hop]
    owner: Aor | None
    is_local: bool
    user: Aor | None
    zone: tzinfo
    arrived: Moment
    now: Moment
    bindings: tuple[Binding, ...] = ()
    statuses: tuple[int, ...] = ()
    status: int = 0
    reason: str = ""
    avps: dict[str, AvpValue] = {}
    variables: dict[str, AvpValue] = {}
    flags: set[int] = set()
    is_decided: bool = False
    # Whether the failure route has its turn.
    is_failed: bool = False
    # Whether its sender was told that it is stored, as he asked.
    is_told: bool = False
    # What an IMDN about it needs, where one is asked for and sent.
    im: Im | None = None
    # Others of the same owner wait to be relayed.
    is_behind: bool = False
    # REGISTERs that the owner's inbox had seen when the bindings were looked up.
    registrations: int = 0
    response: Response | None = None
    fork: Fork[Any] | None = None
    _actions: list[Action] = []

    @property
    def method(self) -> str:
        """Method of the request."""
        return self.request.method

    @property
    def is_trusted(self) -> bool:
        """Whether the request came from a trusted peer."""
        return self.user is None

    @property
    def identity(self) -> Aor | None:
        """Who sent it: `user`, or whom a trusted peer asserts it to be (RFC 3325); None if neither says."""
        return self.user if self.user is not None else asserted_identity(self.request)

    @property
    def is_registered(self) -> bool:
        """Whether `owner` has a binding that is alive, or had one for a MESSAGE that still waits before this one."""
        return bool(self.bindings) or self.is_behind

    def reply(self, status: int, reason: str = "") -> None:
        """Answer the request with a response of our own, `status` 200 to 699; a second answer is ignored."""
        self._add(self._handler.call_reply(self, status, reason, self.now))

    def pass_on(self) -> None:
        """In the failure route: answer with the response that came back, or with `status` if there was none."""
        if self.response is None:
            self.reply(self.status, self.reason)
        else:
            self._add(self._handler.call_pass_on(self, self.response, self.now))

    def relay(self) -> None:
        """Send the MESSAGE to the contacts of `owner`, in its turn; the answer, or the failure route, follows."""
        self._add(self._handler.call_relay(self, self.now))

    def forward(self) -> None:
        """Send a MESSAGE for another domain to the proxy for those, or refuse it, as `foreign` in the settings says."""
        self._add(self._handler.call_forward(self, self.now))

    def save(self) -> None:
        """Carry out a REGISTER, answer it, and let out what waits in the inbox."""
        self._add(self._handler.call_save(self, self.now))

    def m_store(self, owner: str | None = None) -> bool:
        """Store the MESSAGE; 202 follows once it is durable, 503 if it cannot be.

        Args:
            owner: URI of the address of record whose inbox it goes to; `self.owner` if None.

        Returns:
            False if it cannot be stored; `status` and `reason` then say why, and nothing was answered.
        """
        return self.m_store_addrs(owner, None, None)

    def m_store_addrs(self, owner: str | None, src_addr: str | None, dst_addr: str | None) -> bool:
        """As :meth:`m_store`, with other sender and recipient URIs than those in From and To."""
        from_uri = src_addr if src_addr is not None else self.request.from_.uri_text
        to_uri = dst_addr if dst_addr is not None else self.request.to.uri_text
        try:
            aor = self._owner_of(owner)
            self._add(self._handler.call_store(self, aor, from_uri, to_uri, self.now))
        except PeerError as error:
            # What is malformed shows in the usual phrase; its octets are not for a status line.
            is_about_octets = isinstance(error, ParseError | LimitError | Unsupported)
            self.status, self.reason = error.status_hint, "" if is_about_octets else str(error)
            return False
        return True

    def m_dump(self, owner: str | None = None) -> bool:
        """Begin to deliver what waits; the request is not answered by that. :meth:`save` does so by itself.

        Args:
            owner: URI of the address of record whose inbox it is; that of To if None.

        Returns:
            False if there is no such address of record, or the store has too much to do; `status` and `reason` then
            say why.
        """
        try:
            aor = parse_aor(owner) if owner is not None else self.request.to.uri.aor()
            self._actions += self._handler.call_dump(self, aor, self.now)
        except PeerError as error:
            self.status, self.reason = error.status_hint, ""
            return False
        return True

    def mstore(self) -> bool:
        """As :meth:`m_store`."""
        return self.m_store()

    def mstore_uri(self, owner: str) -> bool:
        """As :meth:`m_store` with an owner."""
        return self.m_store(owner)

    def mstore_addrs(self, owner: str, src_addr: str, dst_addr: str) -> bool:
        """As :meth:`m_store_addrs`."""
        return self.m_store_addrs(owner, src_addr, dst_addr)

    def mdump(self) -> bool:
        """As :meth:`m_dump`."""
        return self.m_dump()

    def mdump_uri(self, owner: str) -> bool:
        """As :meth:`m_dump` with an owner."""
        return self.m_dump(owner)

    def evaluate(self, text: str) -> str:
        """Return a text with the values of its pseudo-variables, such as ``$fU`` (:mod:`msilo_core.pseudovars`).

        Raises:
            LocalError: a name is not known.
        """
        return parse_template(text).render(self)

    def run(self, function: Callable[["Call"], None], now: Moment) -> list[Action]:
        """Let a route function decide, and return what it asked for; may be nested, as when `relay` fails at once."""
        outer, self._actions = self._actions, []
        self.now = now
        try:
            function(self)
        except Exception as error:
            # A bug of the route costs the request that it is about, and nothing else.
            self._add(self._handler.call_failed(self, error, now))
        actions, self._actions = self._actions, outer
        return actions

    def _add(self, actions: list[Action]) -> None:
        self._actions += actions
        self.is_decided = True

    def _owner_of(self, owner: str | None) -> Aor:
        if owner is not None:
            return parse_aor(owner)
        if self.owner is None:
            raise NoSuchOwner
        return self.owner


class NoSuchOwner(PeerError):
    """Neither the Request-URI nor the To URI is an address of record."""

    status_hint = 404

    def __init__(self) -> None:
        super().__init__("no address of record to store for")
