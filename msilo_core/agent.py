"""A user agent of few words: it sends MESSAGEs, keeps an address of record registered and takes what arrives.

It is what a test client or a small program needs to use a silo, in the same sans-IO shape as the engine, so that the
same runner drives both. It never asks for storage. Beside the engine's actions it returns two observations,
:class:`Answered` and :class:`Arrived`.
"""

import random
from collections import OrderedDict

import msgspec

from msilo_core.actions import Action, Answered, Arrived, Completion
from msilo_core.clock import Deadlines, Moment, earliest
from msilo_core.compose import build_request
from msilo_core.config import Account, Config
from msilo_core.element import Element
from msilo_core.errors import LocalError, PeerError
from msilo_core.fields import STAR
from msilo_core.flow import Flow
from msilo_core.keyring import Answer, Keyring
from msilo_core.limits import Limits
from msilo_core.message import Request, Response
from msilo_core.relay import MAX_FORWARDS
from msilo_core.transactions import ClientTransaction
from msilo_core.transport import via_value
from msilo_core.uri import parse_uri

__all__ = ["UserAgent"]

# MESSAGEs remembered so that one that comes again is not shown twice.
_SEEN_MAX = 1_000

# After a REGISTER that failed.
_RETRY_S = 30

_CHALLENGES_MAX = 4


class _Registration(msgspec.Struct):
    """A binding that is kept alive."""

    flow: Flow
    aor_uri: str
    contact_uri: str
    expires_s: int
    call_id: str
    tag: str
    cseq: int = 0
    number: int = 0


class _Sent(msgspec.Struct):
    """A request that was sent, and will be again if it is challenged.

    Attributes:
        number: what its sender knows it by.
        flow: how it goes.
        method: its method.
        request_uri: its Request-URI.
        from_uri: sender.
        to_uri: recipient.
        tag: of From.
        call_id: its Call-ID.
        cseq: number of the last that was sent.
        headers: beside those, Content-Length and credentials.
        body: octets.
        registration: what it is for, or None.
        answers: the credentials that it carried.
        challenges: how often it was challenged.
    """

    number: int
    flow: Flow
    method: str
    request_uri: str
    from_uri: str
    to_uri: str
    tag: str
    call_id: str
    cseq: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    registration: _Registration | None = None
    answers: tuple[Answer, ...] = ()
    challenges: int = 0


class UserAgent(Element):
    """A phone's SIP without a phone."""

    allow = ("MESSAGE", "OPTIONS")

    def __init__(
        self,
        config: Config | None = None,
        limits: Limits | None = None,
        *,
        entropy: random.Random | None = None,
        account: Account | None = None,
        now: Moment,
    ) -> None:
        """Make an agent.

        Args:
            config: used for its timers only.
            limits: as the engine's.
            entropy: as the engine's.
            account: what challenges are answered with (Digest: RFC 7616, RFC 8760); None leaves them unanswered.
            now: the present.
        """
        super().__init__(config if config is not None else Config(), limits, entropy, now)
        self._keyring = None if account is None else Keyring(account.username, account.password, self._entropy)
        self._numbers = 0
        self._under_way: dict[str, _Sent] = {}
        self._registrations: dict[str, _Registration] = {}
        self._refreshes: Deadlines[str] = Deadlines()
        self._seen: OrderedDict[tuple[str, int, str], None] = OrderedDict()
        self._closing = False

    # -- Commands ------------------------------------------------------------------------------------------------------

    def message(
        self,
        flow: Flow,
        *,
        from_uri: str,
        to_uri: str,
        body: bytes,
        content_type: str = "text/plain;charset=UTF-8",
        expires_s: int | None = None,
        now: Moment,
    ) -> tuple[int, list[Action]]:
        """Send a MESSAGE (RFC 3428 section 4).

        Args:
            flow: how the next hop is reached.
            from_uri: SIP URI of the sender.
            to_uri: SIP URI of the recipient, and the Request-URI.
            body: any octets.
            content_type: media type of `body`.
            expires_s: lifetime to ask for, in seconds from now; None to leave it to the server.
            now: the present.

        Returns:
            A number that :class:`Answered` will carry, and what to do.

        Raises:
            ParseError: a URI is not one.
            LocalError: a value holds a line break.
        """
        now = self._told(now)
        parse_uri(from_uri)
        parse_uri(to_uri)
        headers = [("Content-Type", content_type)]
        if expires_s is not None:
            headers.append(("Expires", str(expires_s)))
        self._numbers += 1
        sent = _Sent(
            self._numbers,
            flow,
            "MESSAGE",
            to_uri,
            from_uri,
            to_uri,
            self._entropy.tag(),
            self._entropy.call_id(),
            0,
            headers,
            body,
        )
        return sent.number, self._send(sent, now)

    def register(
        self, flow: Flow, *, aor_uri: str, contact_uri: str, expires_s: int = 3600, now: Moment
    ) -> tuple[int, list[Action]]:
        """Bind a contact to an address of record, and keep it bound until :meth:`unregister`.

        Args:
            flow: how the registrar is reached.
            aor_uri: the address of record.
            contact_uri: where we take MESSAGEs.
            expires_s: lifetime to ask for; the binding is refreshed in time.
            now: the present.

        Returns:
            A number that each :class:`Answered` for this registration will carry, and what to do.
        """
        now = self._told(now)
        parse_uri(aor_uri)
        parse_uri(contact_uri)
        self._numbers += 1
        registration = _Registration(
            flow,
            aor_uri,
            contact_uri,
            expires_s,
            self._entropy.call_id(),
            self._entropy.tag(),
            number=self._numbers,
        )
        self._registrations[aor_uri] = registration
        return registration.number, self._register(registration, expires_s, now)

    def unregister(self, aor_uri: str, now: Moment) -> list[Action]:
        """Remove the binding that :meth:`register` made; nothing happens without one."""
        now = self._told(now)
        registration = self._registrations.pop(aor_uri, None)
        if registration is None:
            return []
        self._refreshes.disarm(aor_uri)
        return self._register(registration, 0, now)

    # -- The rest of the machine ---------------------------------------------------------------------------------------

    def complete(self, completion: Completion, now: Moment) -> list[Action]:
        """Refuse: nothing was asked of a store.

        Raises:
            LocalError: always.
        """
        del now
        raise LocalError(f"token {completion.token} of {type(completion).__name__} is not awaited")

    def close(self, now: Moment) -> list[Action]:
        """Begin a graceful end: leave the registrar, and take no more messages."""
        self._closing = True
        actions: list[Action] = []
        for aor_uri in list(self._registrations):
            actions += self.unregister(aor_uri, now)
        return actions

    @property
    def is_idle(self) -> bool:
        """Whether every request of ours has its answer."""
        return not self._under_way

    def handle_timeout(self, now: Moment) -> list[Action]:
        """Do what is due; called early, nothing."""
        actions = super().handle_timeout(now)
        now = self._told(now)
        for aor_uri in self._refreshes.pop_due(now.mono_ms):
            registration = self._registrations[aor_uri]
            actions += self._register(registration, registration.expires_s, now)
        return actions

    def next_timeout(self) -> int | None:
        """Return when :meth:`handle_timeout` is to be called, in ``mono_ms``; None if nothing is due ever."""
        return earliest(super().next_timeout(), self._refreshes.next_ms())

    def answered(
        self, transaction: ClientTransaction, status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        """A request of ours was answered (:class:`msilo_core.transactions.ClientUser`)."""
        if status < 200:
            return []
        sent = self._under_way.pop(transaction.branch)
        if response is not None and status in (401, 407) and self._has_answer(sent, response):
            return self._send(sent, now)
        registration = sent.registration
        reason = response.reason if response is not None else ""
        if registration is not None and self._registrations.get(registration.aor_uri) is registration:
            if response is not None and status == 423 and (wanted_s := _wanted_s(response)) > registration.expires_s:
                # "... it MAY retry the registration after making the expiration interval of all contact addresses in
                # the REGISTER request equal to or greater than the expiration interval within the Min-Expires header
                # field" (RFC 3261 section 10.2.8).
                registration.expires_s = wanted_s
                return self._register(registration, wanted_s, now)
            wait_s = _RETRY_S if status >= 300 or response is None else _refresh_in_s(registration, response)
            self._refreshes.arm(registration.aor_uri, now.mono_ms + wait_s * 1000)
        return [Answered(sent.number, transaction.method, status, reason, response is not None)]

    def _has_answer(self, sent: _Sent, response: Response) -> bool:
        """Say whether a challenged request is to be sent again with credentials (RFC 3261 section 22.2)."""
        sent.challenges += 1
        # One for the server, one for each of a few proxies on the way, and a nonce that had become stale.
        if self._keyring is None or sent.challenges > _CHALLENGES_MAX:
            return False
        try:
            offered = response.www_authenticate, response.proxy_authenticate
        except PeerError:
            return False
        return self._keyring.challenged(*offered, sent.answers)

    def _receive_new(self, request: Request, key: str, flow: Flow, now: Moment) -> list[Action]:
        if request.method == "OPTIONS":
            return self._answer_options(request, flow)
        transaction = self._servers.begin(key, request, flow, now)
        if self._closing:
            # Whoever sends it may keep it for the next time that we are here.
            return self._respond(transaction, 480, now)
        actions = self._respond(transaction, 200, now)
        if self._is_news(request):
            actions.append(Arrived(request))
        return actions

    def _is_news(self, request: Request) -> bool:
        # The same Call-ID, CSeq and From tag is the same message, by whatever way it came (RFC 3261 section 8.2.2.2).
        identity = (request.call_id, request.cseq.number, request.from_.tag)
        if identity in self._seen:
            return False
        self._seen[identity] = None
        if len(self._seen) > _SEEN_MAX:
            self._seen.popitem(last=False)
        return True

    def _register(self, registration: _Registration, expires_s: int, now: Moment) -> list[Action]:
        aor = parse_uri(registration.aor_uri)
        contact = f"<{registration.contact_uri}>;expires={expires_s}"
        sent = _Sent(
            registration.number,
            registration.flow,
            "REGISTER",
            f"{aor.scheme}:{aor.host}",
            registration.aor_uri,
            registration.aor_uri,
            registration.tag,
            registration.call_id,
            registration.cseq,
            [("Contact", contact), ("Allow", ", ".join(self.allow))],
            registration=registration,
        )
        return self._send(sent, now)

    def _send(self, sent: _Sent, now: Moment) -> list[Action]:
        # "... it MUST increment the CSeq header field value as it would normally when sending an updated request"
        # (RFC 3261 section 22.1), and a registrar wants that of all requests with one Call-ID.
        sent.cseq += 1
        if sent.registration is not None:
            sent.registration.cseq = sent.cseq
        if self._keyring is not None:
            sent.answers = self._keyring.answers(sent.method, sent.request_uri, sent.body)
        branch = self._entropy.branch()
        data = build_request(
            sent.method,
            sent.request_uri,
            [
                ("Via", via_value(sent.flow, branch)),
                ("Max-Forwards", str(MAX_FORWARDS)),
                ("From", f"<{sent.from_uri}>;tag={sent.tag}"),
                ("To", f"<{sent.to_uri}>"),
                ("Call-ID", sent.call_id),
                ("CSeq", f"{sent.cseq} {sent.method}"),
                *((name, str(credentials)) for name, credentials in sent.answers),
                *sent.headers,
            ],
            sent.body,
        )
        self._under_way[branch] = sent
        return self._clients.begin(branch, sent.method, sent.flow, data, self, now)


def _wanted_s(response: Response) -> int:
    """Return the least lifetime that a 423 says a registrar takes; 0 if it does not say."""
    try:
        return response.min_expires_s or 0
    except PeerError:
        return 0


def _refresh_in_s(registration: _Registration, response: Response) -> int:
    """Say when to register again: when a quarter of what the registrar granted is left (RFC 3261 section 10.2.4)."""
    granted_s = registration.expires_s
    try:
        contacts = response.contacts
    except PeerError:
        contacts = ()
    for contact in () if contacts is STAR else contacts:
        if contact.uri_text == registration.contact_uri and contact.expires_s is not None:
            granted_s = contact.expires_s
    return max(granted_s * 3 // 4, 1)
