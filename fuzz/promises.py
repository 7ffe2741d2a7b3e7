"""What an engine owes the world whatever it is told, as far as it shows in what it asks for."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from fuzz.octets import ROOMY
from fuzz.peers import OUTBOUND, PROXY
from fuzz.store import ModelStore
from msilo_core import Config, Flow, Limits, Moment
from msilo_core.actions import (
    Bind,
    Binding,
    Bound,
    Completion,
    Dump,
    Dumped,
    Expired,
    Message,
    Outcome,
    Send,
    Settle,
    Settled,
    StorageAction,
    Store,
    Stored,
    UserFound,
)
from msilo_core.errors import PeerError
from msilo_core.fields import STAR
from msilo_core.framing import Keepalive, Malformed
from msilo_core.imdn import NEGATIVE_DELIVERY, PROCESSING, is_imdn, read_im
from msilo_core.message import Request, Response, parse_message, tokenise
from msilo_core.relay import DELIVERY_MARK
from msilo_core.uri import Aor, parse_uri
from msilo_core.users import User

__all__ = ["Promises"]

Key: TypeAlias = tuple[str, int, str, str]
"""Call-ID, CSeq number and From tag, which tell a message from all others (RFC 3261 section 8.2.2.2); and the To URI,
since one that is sent to several is a message for each of them."""

_PAUSE_S: Final = 60
_TRANSACTION_MS: Final = 32_000


class Arrival(msgspec.Struct):
    """A request that came: as it stands in its responses.

    Attributes:
        owner: whose it is, or None if its Request-URI is no address of record, or it came with several.
        stored: how many messages had been stored before.
        came_s: when it came first.
        ends_s: from when on it is not to be sent any more.
        hosts: where it came from.
        branches: topmost branches that it came under.
        times: how often it came.
        is_notice: whether it says that somebody is typing, which is no message (RFC 3994).
    """

    owner: Aor | None
    stored: int
    came_s: int
    ends_s: float
    hosts: set[str]
    branches: set[str]
    times: int
    is_notice: bool = False


class Branch(msgspec.Struct):
    """A request of ours whose final answer is awaited.

    Attributes:
        flow: where it went.
        token: of its Send.
        window: whose it is, its Request-URI and Route: where at most one is outstanding.
        ends_ms: when nobody waits any longer.
    """

    flow: Flow
    token: int
    window: tuple[str, str, str | None]
    ends_ms: int


class Promises:
    """Sees everything that goes into an engine and comes out of it, and fails where a promise is broken."""

    def __init__(self, store: ModelStore, config: Config, limits: Limits) -> None:
        self._store = store
        self._parameters = config.silo
        self._limits = limits
        self._tokens: set[int] = set()
        self._arrivals: dict[tuple[str | None, str | None], Arrival] = {}
        self._registrants: dict[Aor, set[str]] = defaultdict(set)
        self._proven: set[Aor] = set()
        self._bound: set[tuple[str, int]] = set()
        # Numbers of rows, in the order that they were stored in, and what is in one of them.
        self._stored: dict[int, None] = {}
        self._kept: set[Key] = set()
        self._leased: dict[int, Message] = {}
        # When the page was leased that a message is in, in seconds.
        self._leased_s: dict[int, int] = {}
        # A message whose sender may be told next that it was stored.
        self._just_stored: Message | None = None
        # When a sender was told so about an owner, and Call-IDs of what said so.
        self._told_s: dict[tuple[Aor, Aor], int] = {}
        self._notifications: set[str] = set()
        # Messages whose senders asked to be told that they are stored, and those that asked to be told, and were not
        # told yet, that they never will be delivered.
        self._to_say_stored: list[Message] = []
        self._to_say_failed: list[Message] = []
        self._outstanding: dict[str, Branch] = {}
        self._are_windows_known = True
        self._settling: dict[int, Outcome] = {}
        self._sent: dict[str, Key] = {}
        self._branches: dict[tuple[Key, str, str | None], set[str]] = defaultdict(set)
        self._statuses: dict[Key, set[int]] = defaultdict(set)

    # -- What goes in --------------------------------------------------------------------------------------------------

    def received(self, framed: Iterable[Request | Response | Malformed | Keepalive], flow: Flow, now: Moment) -> None:
        """Octets are about to be told that hold these."""
        for one in framed:
            message = one.message if isinstance(one, Malformed) else one
            if isinstance(message, Request):
                self._note_arrival(message, flow, now)
            elif isinstance(one, Response):
                key = self._sent.get(one.via.branch)
                if key is not None:
                    self._statuses[key].add(one.status)
                if one.status >= 200:
                    self._outstanding.pop(one.via.branch, None)

    def failed_to_send(self, token: int) -> None:
        """The Sends with this token could not be carried out."""
        self._outstanding = {
            branch: outstanding for branch, outstanding in self._outstanding.items() if outstanding.token != token
        }

    def closed(self, flow: Flow) -> None:
        """A stream has ended."""
        self._outstanding = {
            branch: outstanding
            for branch, outstanding in self._outstanding.items()
            if not outstanding.flow.is_stream or outstanding.flow.remote != flow.remote
        }

    def _note_arrival(self, request: Request, flow: Flow, now: Moment) -> None:
        if request.method == "ACK":
            return
        answered, owner = _as_answered(request), _owner_of(request)
        arrival = self._arrivals.get(answered)
        if arrival is None:
            arrival = self._arrivals[answered] = Arrival(owner, len(self._stored), now.unix_s, 0, set(), set(), 0)
        if arrival.owner != owner:
            # Which of them is sent on does not show.
            arrival.owner = None
        arrival.ends_s = max(arrival.ends_s, _end_s(request, now))
        arrival.hosts.add(flow.remote[0])
        arrival.branches.add(_branch_of(request))
        arrival.times += 1
        arrival.is_notice |= "iscomposing" in (request.get("content-type") or "").lower()

    def completed(self, action: StorageAction, completion: Completion) -> None:
        """A completion is about to be told."""
        self._just_stored = None
        match action, completion:
            case Bind(callid=callid, cseq=cseq), Bound(bindings=bindings):
                assert len(bindings) <= self._limits.bindings_per_aor_max
                self._bound.add((callid, cseq))
            case Store(message=message), Stored(message_id=message_id, repeated=repeated):
                self._stored[message_id] = None
                self._kept.add(_key_of_row(message))
                self._just_stored = None if repeated else message
                if not repeated and _asks(message, PROCESSING):
                    self._to_say_stored.append(message)
            case _, Expired(untold=untold):
                assert all(message.imdn for message in untold)
                self._to_say_failed += untold
            case _, UserFound(user=User(owner=owner)):
                self._proven.add(owner)
            case Dump(now_ms=now_ms), Dumped(messages=messages):
                self._leased |= {message.message_id: message for message in messages}
                self._leased_s |= {message.message_id: now_ms // 1000 for message in messages}
            case Settle(message_id=message_id, outcome=outcome), _:
                # One that failed is asked for again, but for a lease that ends by itself.
                if isinstance(completion, Settled) or outcome is Outcome.RELEASED:
                    self._settling.pop(message_id, None)
            case _:
                pass

    # -- What comes out ------------------------------------------------------------------------------------------------

    def asked(self, action: StorageAction) -> None:
        """The store is asked for something."""
        assert action.token not in self._tokens, "a token is issued twice"
        self._tokens.add(action.token)
        match action:
            case Bind(owner=owner, contacts=contacts):
                assert owner in self._proven or all(map(_is_trusted, _hosts(contacts))), "registered by a stranger"
                self._registrants[owner] |= _hosts(contacts)
                # Two contacts with different headers have one Request-URI.
                self._are_windows_known &= not any("?" in contact.contact for contact in contacts)
            case Store(message=message):
                self._check_row(message)
                assert action.messages_max == self._parameters.max_messages
                assert action.bytes_max == self._parameters.max_bytes
                assert action.sender_messages_max == self._parameters.max_messages_per_sender
                if self._is_report(message):
                    return
                assert message.imdn in (0, _asks(message, NEGATIVE_DELIVERY)), "nobody asked to be told"
                hosts = {
                    host
                    for key, arrival in self._arrivals.items()
                    if key[0] == message.callid
                    for host in arrival.hosts
                }
                is_trusted = any(map(_is_trusted, hosts))
                assert is_trusted or parse_uri(message.src_addr).aor() in self._proven, "stored for a stranger"
            case Dump(owner=owner):
                # What is left of the page before has a lease that ends by itself: it comes again, or it has expired.
                self._leased = {number: row for number, row in self._leased.items() if row.owner != owner}
            case Settle(message_id=message_id):
                if message_id not in self._settling:
                    self._check_outcome(action)
                row = self._leased.pop(message_id, None)
                if row is not None and row.imdn and action.outcome is Outcome.REFUSED:
                    self._to_say_failed.append(row)
                self._settling[message_id] = action.outcome
            case _:
                pass

    def sent(self, send: Send, now: Moment) -> Request | Response | None:
        """Something is sent; return what it is, None for an answer to a ping."""
        if send.data == b"\r\n":
            assert send.flow.is_stream, "a datagram is no ping"
            return None
        message = tokenise(send.data, ROOMY)
        if isinstance(message, Response):
            self._check_response(message, send.flow)
            return message
        message = parse_message(send.data, ROOMY)
        assert isinstance(message, Request)
        if message.via.branch not in self._sent:
            self._sent[message.via.branch] = self._key_of_sent(message)
            self._check_request(message, send, now)
            return message
        return None

    def _check_row(self, row: Message) -> None:
        parameters = self._parameters
        assert row.callid not in self._notifications, "a notification is stored"
        assert row.exp_time_s > row.snd_time_s, "it expires before it is due"
        if parameters.content_types:
            assert row.ctype.partition("/")[0].strip().lower() in ("", "text"), "stored what is not wanted"

    def _is_report(self, row: Message) -> bool:
        """Say whether a row tells a sender that a message can never be delivered; each is told of once."""
        about = [
            message
            for message in self._to_say_failed
            if (message.src_addr, message.dst_addr) == (row.dst_addr, row.src_addr)
        ]
        if not about or any(key[0] == row.callid for key in self._arrivals):
            return False
        self._to_say_failed.remove(about[0])
        assert is_imdn(row.ctype, row.body)
        assert row.owner == parse_uri(row.dst_addr).aor(), "somebody else is told"
        assert not row.imdn, "an IMDN is to be told of"
        return True

    def _check_outcome(self, settle: Settle) -> None:
        """A message counts as delivered only if a phone said that it has it."""
        if settle.outcome is not Outcome.DELIVERED:
            return
        assert self._was_taken(self._leased[settle.message_id]), "delivered, and nobody said so"

    def _was_taken(self, row: Message) -> bool:
        """Say whether a phone said that it has a message; the store may be told a little later."""
        statuses = self._statuses[_key_of_row(row)] | self._statuses[_key_of_reminder(row)]
        return any(status // 100 == 2 or status == 482 for status in statuses)

    def _check_response(self, response: Response, flow: Flow) -> None:
        arrival = self._arrivals.get(_as_answered(response))
        assert arrival is not None, "a response to what is no request, or to an ACK"
        assert flow.remote[0] in arrival.hosts, "a response to somebody who asked nothing"
        assert _branch_of(response) in arrival.branches, "a response that its sender cannot know again"
        if response.status // 100 != 2:
            return
        response.validate()
        method, key = response.cseq.method, _key_of(response)
        if method == "REGISTER":
            assert (response.call_id, response.cseq.number) in self._bound, "registered, and the store does not know"
            contacts = () if response.contacts is STAR else response.contacts
            assert all(int(contact.param("expires") or 0) > 0 for contact in contacts), (
                "it lists a contact that has left"
            )
        elif method == "MESSAGE":
            has_it = arrival.is_notice or any(status // 100 == 2 for status in self._statuses[key])
            assert has_it or (response.status == 202 and key in self._kept), "accepted, and nobody has it"

    def _check_request(self, request: Request, send: Send, now: Moment) -> None:
        """A branch begins."""
        assert request.method == "MESSAGE", request.method
        flow = send.flow
        if request.via.branch.endswith(f".{DELIVERY_MARK}"):
            self._check_from_silo(request, send, now)
            return
        if flow.remote == PROXY:
            return
        assert any(flow.remote[0] in hosts for hosts in self._registrants.values()), "sent to a stranger"
        arrival = self._arrivals[_as_answered(request)]
        self._check_relayed(arrival, now)
        branches = self._branches[_key_of(request), request.request_uri, request.get("route")]
        branches.add(request.via.branch)
        # One that comes again when its transaction is over is a new one.
        assert len(branches) <= arrival.times, "relayed twice"
        if arrival.owner is not None:
            self._check_window(arrival.owner, request, send, now)

    def _check_from_silo(self, request: Request, send: Send, now: Moment) -> None:
        """It is a stored message on its way, or a notification."""
        parameters = self._parameters
        if parameters.outbound_proxy:
            assert send.flow.remote == OUTBOUND, "it does not go by way of the outbound proxy"
            assert request.routes[0].uri.host == OUTBOUND[0]
        rows = self._rows_of(request)
        if not rows:
            self._check_notification(request, send, now)
        elif len(rows) == 1:
            self._check_delivery(rows[0], request, send.flow, now)
            self._check_window(rows[0].owner, request, send, now)

    def _rows_of(self, request: Request) -> list[Message]:
        """Return the leased row that a request delivers; several where a message was stored for several owners."""
        key = self._key_of_sent(request)
        return [
            row
            for row in self._leased.values()
            if key == _key_of_row(row) or (row.snd_time_s and key == _key_of_reminder(row))
        ]

    def _key_of_sent(self, request: Request) -> Key:
        """Return its key as a row has it: whose sender gave no From tag (RFC 2543) gets one on the way out."""
        key = _key_of(request)
        callid, cseq, _, uri = key
        untagged = (callid, cseq, "", uri)
        rows = [row for row in self._leased.values() if not row.from_tag]
        return untagged if any(untagged in (_key_of_row(row), _key_of_reminder(row)) for row in rows) else key

    def _check_window(self, owner: Aor, request: Request, send: Send, now: Moment) -> None:
        """At most one is outstanding at each of the owner's contacts."""
        window = (str(owner), request.request_uri, request.get("route"))
        for outstanding in self._outstanding.values():
            is_same = outstanding.window == window and outstanding.ends_ms > now.mono_ms
            assert not is_same or not self._are_windows_known, "sent while another is outstanding there"
        branch = Branch(send.flow, send.token, window, now.mono_ms + _TRANSACTION_MS)
        self._outstanding[request.via.branch] = branch

    def _check_notification(self, request: Request, send: Send, now: Moment) -> None:
        self._notifications.add(request.call_id)
        assert request.cseq.number == 1
        assert not request.uri.headers, "a Request-URI with headers"
        assert [via.branch for via in request.vias] == [request.via.branch]
        if is_imdn(request.content_type, request.body):
            self._check_imdn(request, send, now)
            return
        parameters, stored = self._parameters, self._just_stored
        assert stored is not None, "sent by nobody"
        self._just_stored = None
        assert request.from_.uri_text == parameters.from_address
        assert request.to.uri_text == stored.src_addr, "somebody else is told"
        self._check_way_back(stored, send.flow)
        assert not _asks(stored, PROCESSING), "told in two ways"
        assert not is_imdn(stored.ctype, stored.body), "an IMDN is notified of"
        assert request.to.uri.aor() != request.from_.uri.aor(), "a notification is notified of"
        lately = {pair for pair, told_s in self._told_s.items() if now.unix_s < told_s + _PAUSE_S - 1}
        pair = (request.to.uri.aor(), stored.owner)
        assert pair not in lately or len(lately) > self._limits.notified_max, "told twice"
        self._told_s[pair] = now.unix_s

    def _check_imdn(self, request: Request, send: Send, now: Moment) -> None:
        """It tells a sender once that a message is stored, as he asked, and no other is outstanding to him."""
        about = [
            message
            for message in self._to_say_stored
            if (message.src_addr, message.dst_addr) == (request.to.uri_text, request.from_.uri_text)
        ]
        assert about, "nobody asked to be told"
        self._to_say_stored.remove(about[0])
        self._check_way_back(about[0], send.flow)
        sender = request.to.uri.aor()
        window = (f"IMDNs to {sender}", "", None)
        for outstanding in self._outstanding.values():
            assert outstanding.window != window or outstanding.ends_ms <= now.mono_ms, (
                "told while another is outstanding"
            )
        self._outstanding[request.via.branch] = Branch(send.flow, send.token, window, now.mono_ms + _TRANSACTION_MS)

    def _check_way_back(self, stored: Message, flow: Flow) -> None:
        if not self._parameters.outbound_proxy:
            hosts = {
                host
                for (callid, _), arrival in self._arrivals.items()
                if callid == stored.callid
                for host in arrival.hosts
            }
            assert flow.remote[0] in hosts, "the notification goes to a stranger"

    def _check_relayed(self, arrival: Arrival, now: Moment) -> None:
        """What is sent on at once is for who is there, and has nothing before it."""
        assert now.unix_s < arrival.ends_s, "sent on after it expired"
        if arrival.owner is None:
            return
        known = list(self._stored)[: arrival.stored]
        before = [row for row in self._waiting(arrival.owner, arrival.came_s, now) if row.message_id in known]
        assert not before, "it overtakes what was stored"

    def _waiting(self, owner: Aor, since_s: int, now: Moment) -> list[Message]:
        """Return what waits and may be sent, and could be at `since_s`, oldest first."""
        rows = self._store.waiting(owner, now.unix_s)
        return [
            row for row in rows if row.message_id not in self._settling and self._store.due_s(row.message_id) <= since_s
        ]

    def _check_delivery(self, row: Message, request: Request, flow: Flow, now: Moment) -> None:
        parameters = self._parameters
        if parameters.outbound_proxy:
            assert request.request_uri == str(row.owner), "the proxy is to send it to somebody else than its owner"
        else:
            assert flow.remote[0] in self._registrants[row.owner], "sent to somebody else than its owner"
        assert row.exp_time_s > now.unix_s, "sent after it expired"
        assert self._store.due_s(row.message_id) <= now.unix_s, "sent before it was due"
        if row.snd_time_s and parameters.reminder:
            assert request.from_.uri_text == parameters.reminder
            assert request.to.uri_text == str(row.owner)
        outcome = self._settling.get(row.message_id, Outcome.WITHDRAWN)
        # One that is withdrawn while it is sent goes on.
        assert outcome is Outcome.WITHDRAWN, "sent again before its outcome is recorded"
        waiting = self._waiting(row.owner, self._leased_s[row.message_id], now)
        before = [one for one in waiting if one.message_id < row.message_id and not self._was_taken(one)]
        assert not before, "sent before what came before it"


def _asks(message: Message, value: str) -> bool:
    im = read_im(message.ctype, message.body)
    return im is not None and value in im.asked


def _hosts(contacts: Iterable[Binding]) -> set[str]:
    return {contact.flow.remote[0] for contact in contacts}


def _is_trusted(host: str) -> bool:
    return host.startswith("127.")


def _as_answered(message: Request | Response) -> tuple[str | None, str | None]:
    """Return Call-ID and CSeq as they stand in a request and in its responses."""
    return message.get("call-id"), message.get("cseq")


def _key_of(message: Request | Response) -> Key:
    return message.call_id, message.cseq.number, message.from_.tag, message.to.uri_text


def _key_of_row(message: Message) -> Key:
    return message.callid, message.cseq, message.from_tag, message.dst_addr


def _key_of_reminder(row: Message) -> Key:
    return row.callid, row.cseq, row.from_tag, str(row.owner)


def _branch_of(message: Request | Response) -> str:
    """Return the topmost branch; empty where it cannot be read."""
    try:
        return message.via.branch
    except PeerError:
        return ""


def _owner_of(request: Request) -> Aor | None:
    try:
        return request.uri.aor()
    except PeerError:
        return None


def _end_s(request: Request, now: Moment) -> float:
    """Return when a message expires; one that asks for no time at all may be sent at once."""
    try:
        expires_s = request.expires_s
    except PeerError:
        expires_s = None
    return math.inf if expires_s is None else now.unix_s + max(expires_s, 1)
