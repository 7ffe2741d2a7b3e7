"""What the sender of a MESSAGE is told when it was stored: an IMDN (RFC 5438) where he asked for that.

Otherwise it is a MESSAGE of ours, as Kamailio's msilo sends it, if the parameters say so: to a sender who writes to the
same owner again and again, once in a while. Of IMDNs each message has its own. One is outstanding to each sender (RFC
3428 section 8), the others wait for its answer, and are not sent at all to whom does not take it.

A notification of either kind causes no other, whatever comes of it: its Via says that it comes out of a silo, so that
nothing here stores it, and what comes from the address that notifications come from is not notified of, nor is an IMDN.
"""

from collections import OrderedDict, deque
from contextlib import suppress
from typing import Final, TypeAlias

from msilo_core.actions import Action
from msilo_core.clock import Moment
from msilo_core.compose import build_request
from msilo_core.entropy import Entropy
from msilo_core.errors import PeerError
from msilo_core.fields import STAR
from msilo_core.flow import Flow
from msilo_core.imdn import CPIM_TYPE, PROCESSING, Disposition, Im, build_imdn, is_imdn
from msilo_core.limits import Limits
from msilo_core.message import Request, Response
from msilo_core.nexthop import NextHop
from msilo_core.parameters import SiloConfig, header_lines
from msilo_core.pseudovars import Template, parse_template
from msilo_core.relay import DELIVERY_MARK, MAX_FORWARDS
from msilo_core.reports import return_address
from msilo_core.route import Call
from msilo_core.statistics import Statistics
from msilo_core.transactions import ClientTransaction, ClientTransactions
from msilo_core.transport import via_value
from msilo_core.uri import Aor, parse_uri

__all__ = ["Notifier"]

PAUSE_MS: Final = 60_000
"""Between two notifications to the same sender about the same owner: a person reads the first."""

# A request of ours that is not sent yet: its branch, how it goes, and its octets.
Unsent: TypeAlias = tuple[str, Flow, bytes]


class Notifier:
    """Tells senders that their messages were stored, where they ask for it or the parameters of msilo say so.

    Args:
        config: the parameters of msilo.
        limits: bounds.
        clients: where the transactions live.
        entropy: for branches, tags and Call-IDs.
        next_hop: the outbound proxy, or None: a notification then goes back by the flow that the message came by.
        statistics: counted in.
    """

    def __init__(
        self,
        config: SiloConfig,
        limits: Limits,
        clients: ClientTransactions,
        entropy: Entropy,
        next_hop: NextHop | None,
        statistics: Statistics,
    ) -> None:
        self._config = config
        self._limits = limits
        self._clients = clients
        self._entropy = entropy
        self._next_hop = next_hop
        self._statistics = statistics
        self._is_on = bool(config.from_address and config.offline_message)
        self._from_address = parse_template(config.from_address)
        self._body = parse_template(config.offline_message)
        lines = header_lines(config.contact_hdr) + header_lines(config.content_type_hdr)
        self._headers = [parse_template(line) for line in lines]
        # By sender and owner, the oldest first: when it was told.
        self._told_ms: OrderedDict[tuple[Aor, Aor], int] = OrderedDict()
        # IMDNs to each sender to whom one is outstanding, behind that; how many these are; and who has which.
        self._lines: dict[Aor, deque[Unsent]] = {}
        self._waiting = 0
        self._senders: dict[str, Aor] = {}

    def notify(self, call: Call, owner: Aor, now: Moment) -> list[Action]:
        """The message of a call was stored for an owner: tell its sender, if that is wanted and was not done."""
        config, request = self._config, call.request
        if config.skip_notification_flag in call.flags:
            return []
        if call.im is not None and PROCESSING in call.im.asked:
            return self._say_stored(call, call.im, now)
        if not self._is_on or self._clients.is_full or is_imdn(request.content_type, request.body):
            return []
        address = self._from_address.render_lines(call)
        try:
            aor = request.from_.uri.aor()
            is_ours = parse_uri(address).aor() == aor
        except PeerError:
            # Somebody who has no address of record is no one to tell, nor one who would be told by nobody.
            return []
        if is_ours or not self._is_due((aor, owner), now):
            return []
        self._statistics.notifications += 1
        headers = [_named(template, call) for template in self._headers]
        body = self._body.render(call).encode("utf-8", "surrogateescape")
        branch, flow, data = self._message(call, address, headers, body)
        return self._clients.begin(branch, "MESSAGE", flow, data, self, now)

    def _say_stored(self, call: Call, im: Im, now: Moment) -> list[Action]:
        """Tell a sender by IMDN, now or in turn."""
        if call.is_told:
            # Stored for another owner too. "The intermediary MUST NOT send more than one IMDN for the same disposition
            # type" (RFC 5438 section 8.1).
            return []
        call.is_told = True
        request = call.request
        sender_uri, recipient_uri = request.from_.uri_text, request.to.uri_text
        sender = return_address(sender_uri)
        line = self._lines.get(sender) if sender is not None else None
        if sender is None or not self._has_room(line):
            self._statistics.lost_imdns += 1
            return []
        body = build_imdn(
            im,
            Disposition.STORED,
            self._entropy.call_id(),
            sender_uri=sender_uri,
            recipient_uri=recipient_uri,
            stored_s=call.arrived.unix_s,
            now_s=now.unix_s,
        )
        unsent = self._message(call, recipient_uri, [("Content-Type", CPIM_TYPE)], body)
        if line is not None:
            line.append(unsent)
            self._waiting += 1
            return []
        self._lines[sender] = deque()
        return self._begin(sender, unsent, now)

    def _has_room(self, line: deque[Unsent] | None) -> bool:
        if line is None:
            return not self._clients.is_full
        limits = self._limits
        return len(line) < limits.imdns_per_sender_max and self._waiting < limits.imdns_waiting_max

    def _begin(self, sender: Aor, unsent: Unsent, now: Moment) -> list[Action]:
        branch, flow, data = unsent
        self._statistics.imdns += 1
        self._senders[branch] = sender
        return self._clients.begin(branch, "MESSAGE", flow, data, self, now)

    def _message(self, call: Call, from_uri: str, headers: list[tuple[str, str]], body: bytes) -> Unsent:
        """Return a MESSAGE to the sender of a call."""
        flow, request_uri, route = self._way(call, _request_uri_of(call.request, self._config.use_contact))
        branch = f"{self._entropy.branch()}.{DELIVERY_MARK}"
        head = [
            ("Via", via_value(flow, branch)),
            ("Max-Forwards", str(MAX_FORWARDS)),
            *([("Route", route)] if route else []),
            ("From", f"<{from_uri}>;tag={self._entropy.tag()}"),
            ("To", f"<{call.request.from_.uri_text}>"),
            ("Call-ID", self._entropy.call_id()),
            ("CSeq", "1 MESSAGE"),
        ]
        return branch, flow, build_request("MESSAGE", request_uri, head + headers, body)

    def answered(
        self, transaction: ClientTransaction, status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        """A notification has its answer (:class:`msilo_core.transactions.ClientUser`); the next IMDN may follow."""
        del response
        sender = self._senders.pop(transaction.branch, None) if status >= 200 else None
        if sender is None:
            return []
        line = self._lines[sender]
        if not line or status >= 300 or self._clients.is_full:
            # Who does not take one, or is not there any more, is not sent the others.
            del self._lines[sender]
            self._waiting -= len(line)
            self._statistics.lost_imdns += len(line)
            return []
        self._waiting -= 1
        return self._begin(sender, line.popleft(), now)

    def _way(self, call: Call, request_uri: str) -> tuple[Flow, str, str]:
        if self._next_hop is None:
            return call.flow, request_uri, ""
        return self._next_hop.towards(request_uri, call.flow)

    def _is_due(self, key: tuple[Aor, Aor], now: Moment) -> bool:
        told_ms = self._told_ms.get(key)
        if told_ms is not None and now.mono_ms < told_ms + PAUSE_MS:
            return False
        self._told_ms[key] = now.mono_ms
        self._told_ms.move_to_end(key)
        if len(self._told_ms) > self._limits.notified_max:
            self._told_ms.popitem(last=False)
        return True


def _request_uri_of(request: Request, use_contact: int) -> str:
    """Return the URI of the first Contact, if that is wanted, or of From, without what a Request-URI may not have."""
    if use_contact:
        with suppress(PeerError):
            contacts = request.contacts
            if contacts is not STAR and contacts:
                return contacts[0].uri_text.removesuffix(contacts[0].uri.headers)
    return request.from_.uri_text.removesuffix(request.from_.uri.headers)


def _named(template: Template, call: Call) -> tuple[str, str]:
    name, _, value = template.render_lines(call).partition(":")
    return name.strip(), value.strip()
