"""The engine: framing, transactions, registrar, relay and silo behind one class, the only one a runner meets.

Octets, completions and time go in; each call returns everything that must be done, in order. Nothing waits inside to
be polled for but the next deadline. Peers cannot make it raise: what they do wrong becomes an answer, a closed flow or
a :class:`Dropped`.
"""

import random
from collections.abc import Sequence
from functools import partial

import msgspec

from msilo_core.actions import (
    Action,
    Bind,
    Bound,
    Completion,
    FindUser,
    LookedUp,
    LookUp,
    Refused,
    StorageFailed,
    Store,
    Stored,
    UserFound,
)
from msilo_core.admission import refuse_extensions
from msilo_core.clock import Moment, earliest
from msilo_core.compose import relay_response
from msilo_core.config import Config
from msilo_core.desk import Desk, Share
from msilo_core.digest import Verdict
from msilo_core.element import Element
from msilo_core.errors import LocalError, PeerError, Unavailable
from msilo_core.fields import Hop
from msilo_core.flow import Flow
from msilo_core.grammar import normalise_host
from msilo_core.guard import Claim, Guard
from msilo_core.housekeeping import Housekeeping
from msilo_core.identity import hidden_headers
from msilo_core.intake import Intake
from msilo_core.limits import Limits
from msilo_core.message import Request, Response
from msilo_core.nexthop import NextHop, Proxy, parse_proxy
from msilo_core.notifications import Notifier
from msilo_core.outbound import Outbound, parse_foreign
from msilo_core.outcome import Backoff
from msilo_core.pseudovars import parse_template
from msilo_core.rates import RegistrationRate, SenderRates, sender_of
from msilo_core.registrar import IntervalTooBrief, PathNotSupported, register_of, response_headers
from msilo_core.relay import Relay
from msilo_core.reports import Reports
from msilo_core.route import Call, Route, ServerRoute
from msilo_core.silo import RETRY_PAUSE_S, Silo
from msilo_core.transactions import ServerTransaction
from msilo_core.uri import Aor, SipUri, parse_aor

__all__ = ["Engine"]


class Overloaded(PeerError):
    """So much is under way that nothing new is begun."""

    status_hint = 503

    def __init__(self) -> None:
        super().__init__("too many requests under way")


class Merged(PeerError):
    """The same request is being carried out already."""

    status_hint = 482

    def __init__(self) -> None:
        super().__init__("merged request")


class Engine(Element):
    """A SIP registrar, MESSAGE relay and silo without I/O."""

    allow = ("MESSAGE", "REGISTER", "OPTIONS", "CANCEL", "ACK")
    proxied = ("MESSAGE",)

    def __init__(
        self,
        config: Config,
        limits: Limits | None = None,
        *,
        entropy: random.Random | None = None,
        now: Moment,
        route: Route | None = None,
    ) -> None:
        """Make an engine with nothing under way.

        Args:
            config: policy and timers.
            limits: bounds; the defaults of :class:`Limits` if None.
            entropy: source of branches, tags and Call-IDs; the system's if None. The same seed, the same octets.
            now: the present.
            route: what becomes of a request; :class:`ServerRoute` if None.

        Raises:
            LocalError: a value in `config` cannot be understood; the text says what to give.
        """
        super().__init__(config, limits, entropy, now)
        self._route: Route = route if route is not None else ServerRoute()
        self._zone = config.silo.zone
        self._is_each = config.is_each
        self._guard = Guard(config, self._limits, self._entropy, now)
        self._desk = Desk(self._limits)
        self._registrations = RegistrationRate(self._limits, self._entropy, now)
        self._senders = SenderRates(self._limits) if self._limits.sender_rate else None
        self._relay = Relay(self._clients, self._entropy, self._guard.is_trusted)
        self._intake = Intake(config.silo, now.mono_ms + 64 * config.t1_ms)
        self._next_hops: list[NextHop] = []
        self._foreign: int | Outbound
        foreign = parse_foreign(config.foreign)
        if isinstance(foreign, int):
            self._foreign = foreign
        else:
            self._foreign = Outbound(self._next_hop(foreign), self._relay, self._pass_back, self._fail_call)
        proxy = config.silo.outbound_proxy
        next_hop = self._next_hop(parse_proxy("outbound_proxy", proxy)) if proxy else None
        self._notifier = Notifier(config.silo, self._limits, self._clients, self._entropy, next_hop, self.statistics)
        self._backoff = Backoff(config.delivery, self._entropy)
        self._reports = Reports(
            config.silo,
            self._desk,
            self._entropy,
            self.statistics,
            reaches=lambda domain: next_hop is not None or self._serves(domain),
            deliver=self._deliver,
        )
        self._silo = Silo(
            config,
            self._limits,
            self._desk,
            self._clients,
            self._entropy,
            self._relay,
            next_hop,
            self.statistics,
            self._backoff,
            is_open=self._streams.__contains__,
            is_trusted=self._guard.is_trusted,
            pass_on=self.call_pass_on,
            fail_call=self._fail_call,
            refuse=self.call_reply,
            refused=self._reports.failed,
            keeps=self._intake.keeps,
        )
        self._housekeeping = Housekeeping(
            config,
            RETRY_PAUSE_S,
            self._limits,
            self._desk,
            self.statistics,
            self._deliver,
            self._reports,
            next_hop,
            now,
        )
        lines = config.silo.extra_hdrs.removesuffix("\r\n")
        self._extra_hdrs = parse_template(f"{lines}\r\n" if lines else "")
        self._closing = False

    # -- Inputs --------------------------------------------------------------------------------------------------------

    def complete(self, completion: Completion, now: Moment) -> list[Action]:
        """Take the answer to a storage action.

        Raises:
            LocalError: its token is not awaited, or it answers another kind of action.
        """
        return self._desk.complete(completion, self._told(now))

    def dump(self, aor: Aor | str, contact: str | None, now: Moment) -> list[Action]:
        """Deliver what waits for `aor`, as a REGISTER would.

        Args:
            aor: the owner.
            contact: deliver only if this Contact URI is registered; if any is, if None.
            now: the present.

        Raises:
            ParseError: `aor` is not an address of record.
            Unavailable: the store has so much to do that nothing new is begun (``storage_actions_max``).
        """
        owner = parse_aor(aor) if isinstance(aor, str) else aor
        if self._desk.is_full(Share.LOOK_UP):
            raise Unavailable(f"{owner}: the store has too much to do: dump it again later")
        return self._dump(owner, contact, None, self._told(now), is_asked=True)

    def close(self, now: Moment) -> list[Action]:
        """Begin a graceful end: new requests get 503, no delivery begins, leases not in use are given up."""
        now = self._told(now)
        self._closing = True
        self._housekeeping.close()
        return self._silo.close(now)

    def abandon(self, now: Moment) -> list[Action]:
        """End the wait of :meth:`close`: give up the leases of messages that phones have not answered.

        They are sent again by whoever leases them next, with the same identity, so that a phone can tell.
        """
        return self._silo.abandon(self._told(now))

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Do what is due; called early, nothing."""
        # First of all what may not be sent any more: a process that slept beyond the end of a lease has no right to it.
        actions = self._silo.handle_timeout(self._told(now))
        actions += super().handle_timeout(now)
        now = self._told(now)
        actions += self._desk.handle_timeout(now)
        actions += self._housekeeping.handle_timeout(now)
        return actions

    # -- Questions -----------------------------------------------------------------------------------------------------

    def next_timeout(self) -> int | None:
        """Return when :meth:`handle_timeout` is to be called, in ``mono_ms``; None if nothing is due ever."""
        return earliest(
            super().next_timeout(),
            self._desk.next_timeout(),
            self._silo.next_timeout(),
            self._housekeeping.next_timeout(),
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way that a graceful end has to wait for."""
        return self._desk.is_idle and not self._servers.active_count and self._silo.is_idle

    # -- Messages ------------------------------------------------------------------------------------------------------

    def _receive_new(self, request: Request, key: str, flow: Flow, now: Moment) -> list[Action]:
        for next_hop in self._next_hops:
            next_hop.note(flow)
        is_trusted = self._guard.is_trusted(flow)
        if not is_trusted and not self._guard.knows_users:
            return self._answer(request, flow, 403, "Not a Trusted Peer")
        if self._closing:
            return self._answer(request, flow, 503)
        if request.method == "OPTIONS":
            return self._answer_options(request, flow)
        is_message = request.method == "MESSAGE"
        if is_message and self._relay.is_looped(request):
            return self._answer(request, flow, 482)
        # What has no time for messages, the store or the phones that they are for, must not keep other phones out.
        if is_message:
            if self._servers.is_crowded:
                return self._overload(request, flow, now)
        elif self._servers.is_full or self._desk.is_full(Share.REGISTER) or self._registrations.is_spent(now):
            return self._overload(request, flow, now)
        if not is_trusted:
            return self._identify(request, key, flow, now)
        transaction = self._servers.begin(key, request, flow, now)
        return self._route_request(request, transaction, flow, None, now)

    def _identify(self, request: Request, key: str, flow: Flow, now: Moment) -> list[Action]:
        """Find out whether a request comes from the user that it speaks for."""
        guard = self._guard
        try:
            owner = guard.owner_of(request)
            claim = guard.claim_of(request, flow, owner, now) if self._serves(owner.domain) else None
        except PeerError as error:
            return self._answer(request, flow, error.status_hint)
        if not self._serves(owner.domain):
            return self._answer(request, flow, 403, "Not a User of Ours")
        if claim is None:
            # "... and thus behaving statelessly towards unauthenticated requests" (section 26.3.2.4).
            status, headers = guard.challenge(request, owner, now)
            return self._answer(request, flow, status, "", headers)
        share = Share.LOOK_UP if request.method == "MESSAGE" else Share.REGISTER
        if self._desk.is_full(share):
            return self._overload(request, flow, now)
        transaction = self._servers.begin(key, request, flow, now)
        if not guard.is_name(claim.user.username):
            return self._denied(request, transaction, flow, claim, now)
        token = self._desk.issue(share, partial(self._identified, request, transaction, flow, claim), _ignore, now)
        return [FindUser(token, claim.user)]

    def _identified(
        self,
        request: Request,
        transaction: ServerTransaction,
        flow: Flow,
        claim: Claim,
        completion: Completion,
        now: Moment,
    ) -> list[Action]:
        if not isinstance(completion, UserFound):
            return self._storage_failed(request, transaction, completion, now)
        verdict = self._guard.admit(claim, request, completion.user, now)
        if verdict is Verdict.DENIED:
            return self._denied(request, transaction, flow, claim, now)
        if verdict is Verdict.STALE:
            return self._challenge(request, transaction, flow, claim, now, stale=True)
        if claim.user != claim.owner:
            return self._respond(transaction, 403, now, "Not Your Address")
        return self._route_request(request, transaction, flow, claim.user, now)

    def _denied(
        self, request: Request, transaction: ServerTransaction, flow: Flow, claim: Claim, now: Moment
    ) -> list[Action]:
        dropped = self._drop(flow, "wrong credentials")
        return dropped + self._challenge(request, transaction, flow, claim, now, stale=False)

    def _challenge(
        self, request: Request, transaction: ServerTransaction, flow: Flow, claim: Claim, now: Moment, *, stale: bool
    ) -> list[Action]:
        # As where it came without credentials: whoever knows no password does not make us remember anything.
        self._servers.abandon(transaction)
        status, headers = self._guard.challenge(request, claim.owner, now, stale=stale)
        return self._answer(request, flow, status, "", headers)

    def _route_request(
        self, request: Request, transaction: ServerTransaction, flow: Flow, user: Aor | None, now: Moment
    ) -> list[Action]:
        is_register = request.method == "REGISTER"
        if self._senders is not None and not is_register:
            wait_ms = self._senders.wait_ms(sender_of(request, flow, user), now)
            if wait_ms:
                self._servers.abandon(transaction)
                return self._overload(request, flow, now, wait_ms)
        try:
            request_uri, uri_text, route = self._preprocessed(request, flow)
            # RFC 4475 section 3.3.4: "the To: header field is required to contain a SIP or SIPS URI as an AOR".
            named = request.to.uri if is_register else request_uri
        except PeerError as error:
            return self._respond(transaction, error.status_hint, now)
        owner = self._owner_of(request, named, flow)
        is_local = owner is not None and self._serves(owner.domain)
        if is_register and not _is_literal(request_uri.host):
            # Section 10.3 step 1: is it for this registrar at all? By an address it has come to the right place.
            is_local &= self._serves(normalise_host(request_uri.host))
        call = Call(self, transaction, request, flow, uri_text, route, owner, is_local, user, self._zone, now, now)
        if owner is None or not is_local or is_register or not self._route.uses_location:
            return self._run(call, now)
        if self._desk.is_full(Share.LOOK_UP):
            self._servers.abandon(transaction)
            return self._overload(request, flow, now)
        registrations = self._silo.expect(owner)
        token = self._desk.issue(Share.LOOK_UP, partial(self._located, call, registrations), _ignore, now)
        return [LookUp(token, owner, now.unix_s, self._is_each)]

    def _overload(self, request: Request, flow: Flow, now: Moment, wait_ms: int = 0) -> list[Action]:
        """Refuse what there is no room for, and keep nothing of it; `wait_ms`: until there is, where that is known."""
        self.statistics.overloads += 1
        return self._answer(request, flow, 503, headers=self._come_back(request, now, wait_ms))

    def _come_back(self, request: Request, now: Moment, wait_ms: int = 0) -> list[tuple[str, str]]:
        """Say when a request that gets 503 is to come again (RFC 3261 section 20.33)."""
        if request.method == "REGISTER":
            # Phones come all at once where a server was away, and would do so again.
            after_s = self._registrations.retry_after_s(now)
        else:
            after_s = -(-wait_ms // 1000) or self._limits.retry_after_s
        return [("Retry-After", str(after_s))]

    def _preprocessed(self, request: Request, flow: Flow) -> tuple[SipUri, str, list[Hop]]:
        """Return Request-URI, taken apart and as text, and Route without what led here (RFC 3261 section 16.4).

        Raises:
            ParseError: a value of Route is not the address of a SIP URI.
        """
        uri, uri_text = request.uri, request.request_uri
        if "route" not in request.head.first:
            return uri, uri_text, []
        route = list(request.routes)
        if route and uri.user is None and uri.param("lr") is not None and self._is_us(uri, flow):
            # We are the Request-URI of a strict router before us, which put the real one behind the others.
            last = route.pop()
            uri, uri_text = last.uri, last.uri_text
        while route and self._is_us(route[0].uri, flow):
            del route[0]
        return uri, uri_text, route

    def _owner_of(self, request: Request, named: SipUri, flow: Flow) -> Aor | None:
        """Say whose request it is; see :class:`Call`. `named` is the To URI of a REGISTER, else the Request-URI."""
        try:
            if named.user is None and request.method != "REGISTER":
                return request.to.uri.aor(self._limits) if self._is_us(named, flow) else None
            return named.aor(self._limits)
        except PeerError:
            # Not a name that anybody is known by, or To is no SIP URI at all: it may hold any.
            return None

    def _located(self, call: Call, registrations: int, completion: Completion, now: Moment) -> list[Action]:
        assert call.owner is not None
        if isinstance(completion, LookedUp):
            actions = self._silo.located(call, registrations, completion, now)
            return actions + self._run(call, now)
        self._silo.located(call, registrations, None, now)
        actions = self._storage_failed(call.request, call.transaction, completion, now)
        return actions + self._silo.advance(call.owner, now)

    def _run(self, call: Call, now: Moment) -> list[Action]:
        actions = call.run(self._route.request_route, now)
        if not call.is_decided:
            actions += self.call_reply(call, 500, "The Route Decided Nothing", now)
        if call.owner is not None:
            actions += self._silo.advance(call.owner, now)
        return actions

    def _fail_call(self, call: Call, status: int, response: Response | None, now: Moment) -> list[Action]:
        call.status, call.response = status, response
        call.reason = response.reason if response is not None else ""
        call.is_decided, call.is_failed = False, True
        actions = call.run(self._route.failure_route, now)
        if not call.is_decided:
            actions += self.call_reply(call, status, call.reason, now)
        return actions

    def _pass_back(self, call: Call, _status: int, response: Response | None, now: Moment) -> list[Action]:
        assert response is not None, "a status made here is no success"
        return self.call_pass_on(call, response, now)

    # -- What a route may ask for (CallHandler) ------------------------------------------------------------------------

    def call_reply(self, call: Call, status: int, reason: str, now: Moment) -> list[Action]:
        """Answer with a response of our own."""
        headers: Sequence[tuple[str, str]] = ()
        if status == 420:
            refusal = refuse_extensions(call.request, "require", "proxy-require")
            headers = () if refusal is None else refusal.headers
        elif status == 415 and self._intake.accept:
            headers = [("Accept", self._intake.accept)]
        return self._respond(call.transaction, status, now, reason, headers)

    def call_pass_on(self, call: Call, response: Response, now: Moment) -> list[Action]:
        """Answer with a phone's response, our Via taken off, and the challenges of all (RFC 3261 section 16.7)."""
        if response.status == 503:
            # Section 16.7 step 6: of the phone, not of us; "the proxy SHOULD generate a 500".
            return self.call_reply(call, 500, "", now)
        fork = call.fork
        assert fork is not None, "it came from a target of one"
        challenges = fork.challenges_beside(response) if response.status in (401, 407) else []
        is_believed = fork.answered_by is not None and self._guard.is_trusted(fork.answered_by)
        hidden = hidden_headers(response, is_believed, call.is_trusted)
        try:
            passed_on = relay_response(response, challenges, hidden, below=call.request.via)
        except PeerError:
            # The phone lost or changed the Via of the sender, who is to be told all the same.
            return self.call_reply(call, response.status, response.reason, now)
        return self._servers.respond(call.transaction, response.status, passed_on, now)

    def call_failed(self, call: Call, error: Exception, now: Moment) -> list[Action]:
        """A route function raised: answer 500, unless it was answered or stored before."""
        self.statistics.route_errors += 1
        dropped = self._drop(call.flow, f"route raised {type(error).__name__}")
        return dropped if call.is_decided else dropped + self.call_reply(call, 500, "", now)

    def call_relay(self, call: Call, now: Moment) -> list[Action]:
        """Send to the contacts of the owner."""
        if call.method != "MESSAGE" or call.owner is None or not self._route.uses_location:
            raise LocalError("relay is for a MESSAGE whose owner was located")
        return self._silo.relay(call, now)

    def call_forward(self, call: Call, now: Moment) -> list[Action]:
        """Send to the proxy for other domains, or refuse."""
        foreign = self._foreign
        if isinstance(foreign, int) or call.method != "MESSAGE":
            status = foreign if isinstance(foreign, int) else 404
            return self.call_reply(call, status, "Domain Not Served" if call.owner is not None else "", now)
        return foreign.forward(call, now)

    def call_save(self, call: Call, now: Moment) -> list[Action]:
        """Carry out a REGISTER."""
        if call.method != "REGISTER" or call.owner is None:
            raise LocalError("save is for a REGISTER")
        try:
            change = register_of(call.request, call.flow, self._config, now)
            self._require_first(call, call.owner)
        except PeerError as error:
            extra: list[tuple[str, str]] = []
            if isinstance(error, IntervalTooBrief):
                extra = [("Min-Expires", str(self._config.expires_min_s))]
            elif isinstance(error, PathNotSupported):
                extra = [("Unsupported", "path")]
            return self._respond(call.transaction, error.status_hint, now, headers=extra)
        if self._registrations.is_spent(now):
            # Others were let in while it was found out who this is.
            self.statistics.overloads += 1
            headers = self._come_back(call.request, now)
            return self._respond(call.transaction, 503, now, headers=headers)
        self._registrations.take(now)
        token = self._desk.issue(Share.REGISTER, partial(self._bound, call, change.path), _ignore, now)
        return [
            Bind(
                token, call.owner, now.unix_s, change.callid, change.cseq, change.contacts, change.remove_all,
                self._limits.bindings_per_aor_max, self._limits.bindings_bytes_max, self._is_each,
            )
        ]  # fmt: skip

    def call_store(self, call: Call, owner: Aor, src_addr: str, dst_addr: str, now: Moment) -> list[Action]:
        """Store a MESSAGE, and answer it when it is durable."""
        if call.method != "MESSAGE":
            raise LocalError("m_store is for a MESSAGE")
        if self._desk.is_full(Share.STORE):
            self.statistics.overloads += 1
            raise Overloaded
        message = self._intake.row_of(call, owner, src_addr, dst_addr)
        if message is None:
            return self.call_reply(call, 200, "", now)
        self._require_first(call, owner)
        if owner == call.owner and call.bindings and not message.snd_time_s:
            message = msgspec.structs.replace(message, next_time_s=self._next_time_s(call, now))
        self._silo.storing(call, owner)
        handler = partial(self._stored, call, owner)
        silo = self._config.silo
        token = self._desk.issue(Share.STORE, handler, partial(self._stored_late, call, owner), now)
        return [Store(token, message, silo.max_messages, silo.max_bytes, silo.max_messages_per_sender)]

    def _next_time_s(self, call: Call, now: Moment) -> int:
        """Say when somebody must see to it that a message reaches a phone that is there, if this server cannot."""
        return self._backoff.next_time_s(0, call.response, now) if call.statuses else now.unix_s

    def call_dump(self, call: Call, owner: Aor, now: Moment) -> list[Action]:
        """Begin to deliver what waits for an owner."""
        if self._desk.is_full(Share.LOOK_UP):
            raise Overloaded
        return self._dump(owner, None, self._extra_hdrs.render_lines(call), now, is_asked=True)

    def _require_first(self, call: Call, owner: Aor) -> None:
        """Refuse a request that is answered here and came before, by another way (RFC 3261 section 8.2.2.2).

        A proxy "MUST NOT treat merged requests as an error condition" (section 16.3): one that goes on to phones is not
        held up. And each owner is a recipient of its own: a list of two in one mailbox server is no merge.
        """
        request = call.request
        if request.to.tag:
            return
        identity = (owner, request.method, request.cseq.number, request.from_.tag, request.call_id)
        if not self._servers.claim(call.transaction, identity):
            raise Merged

    # -- Completions ---------------------------------------------------------------------------------------------------

    def _stored(self, call: Call, owner: Aor, completion: Completion, now: Moment) -> list[Action]:
        if not isinstance(completion, Stored):
            if call.fork is not None and call.fork.taken:
                # A phone took it while it was being stored.
                actions = self._respond(call.transaction, 200, now)
            elif isinstance(completion, Refused):
                actions = self._respond(call.transaction, completion.status, now, completion.reason)
            else:
                actions = self._storage_failed(call.request, call.transaction, completion, now)
            return actions + self._silo.stored(call, owner, 0, now)
        if completion.repeated:
            self.statistics.repeated_messages += 1
        else:
            self.statistics.stored_messages += 1
        actions = self._respond(call.transaction, 202, now)
        if not completion.repeated:
            actions += self._notifier.notify(call, owner, now)
        actions += self._silo.stored(call, owner, completion.message_id, now)
        if owner != call.owner and self._route.uses_location and not self._desk.is_full(Share.LOOK_UP):
            # Nobody has looked yet where that one is: he may be there.
            actions += self._dump(owner, None, None, now)
        return actions

    def _stored_late(self, call: Call, owner: Aor, completion: Completion, now: Moment) -> list[Action]:
        # Its sender was told 503, and may send it again to whatever server: a repeat of it may have been answered 202.
        # So it stays, unless a phone took it live, and at worst a phone sees the same Call-ID, CSeq and From tag twice.
        del now
        if not isinstance(completion, Stored):
            return []
        if not completion.repeated:
            self.statistics.stored_messages += 1
        return [] if call.fork is None else self._silo.note_row(call.fork, owner, completion.message_id)

    def _bound(self, call: Call, path: str, completion: Completion, now: Moment) -> list[Action]:
        assert call.owner is not None
        match completion:
            case Bound(bindings=bindings, waiting=waiting):
                self.statistics.registrations += 1
                headers = response_headers(bindings, path, now)
                actions = self._respond(call.transaction, 200, now, headers=headers)
                extra_hdrs = self._extra_hdrs.render_lines(call) if waiting else None
                return actions + self._silo.bound(call.owner, bindings, waiting, extra_hdrs, now)
            case Refused(status=status, reason=reason):
                return self._respond(call.transaction, status, now, reason)
            case _:
                return self._storage_failed(call.request, call.transaction, completion, now)

    def _dump(
        self, owner: Aor, contact: str | None, extra_hdrs: str | None, now: Moment, *, is_asked: bool = False
    ) -> list[Action]:
        handler = partial(self._dump_located, owner, contact, extra_hdrs, is_asked, self._silo.expect(owner))
        token = self._desk.issue(Share.LOOK_UP, handler, _ignore, now)
        return [LookUp(token, owner, now.unix_s, self._is_each)]

    def _deliver(self, owner: Aor, now: Moment) -> list[Action]:
        if self._desk.is_full(Share.LOOK_UP):
            # What is due stays so, and is found again at the next look.
            return []
        return self._dump(owner, None, None, now)

    def _dump_located(
        self,
        owner: Aor,
        contact: str | None,
        extra_hdrs: str | None,
        is_asked: bool,
        registrations: int,
        completion: Completion,
        now: Moment,
    ) -> list[Action]:
        looked_up = completion if isinstance(completion, LookedUp) else None
        return self._silo.dump(owner, contact, registrations, looked_up, extra_hdrs, now, is_asked=is_asked)

    def _storage_failed(
        self, request: Request, transaction: ServerTransaction, completion: Completion, now: Moment
    ) -> list[Action]:
        if not isinstance(completion, StorageFailed):
            raise LocalError(f"{type(completion).__name__} does not answer what {request.method} asked for")
        self.statistics.storage_failures += 1
        return self._respond(transaction, 503, now, headers=self._come_back(request, now))

    # -- Policy --------------------------------------------------------------------------------------------------------

    def _serves(self, domain: str) -> bool:
        return not self._config.domains or domain in self._config.domains

    def _is_us(self, uri: SipUri, flow: Flow) -> bool:
        """Say whether a URI without a user means this server: by the name of a domain, or by the socket of `flow`."""
        host = normalise_host(uri.host)
        return self._serves(host) or (host.strip("[]"), uri.port or 5060) == flow.local

    def _next_hop(self, proxy: Proxy) -> NextHop:
        next_hop = NextHop(proxy)
        self._next_hops.append(next_hop)
        return next_hop


def _is_literal(host: str) -> bool:
    # No name ends in a digit alone: see normalise_host.
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def _ignore(_completion: Completion, _now: Moment) -> list[Action]:
    return []
