"""What the sender of a MESSAGE is told when it was stored: a MESSAGE of ours, as Kamailio's msilo sends it.

A notification causes no other, whatever comes of it: its Via says that it comes out of a silo, so that nothing here
stores it, and what comes from the address that notifications come from is not notified of. A sender who writes to the
same owner again and again is told once in a while.
"""

from collections import OrderedDict
from contextlib import suppress
from typing import Final

from msilo_core.actions import Action
from msilo_core.clock import Moment
from msilo_core.compose import build_request
from msilo_core.entropy import Entropy
from msilo_core.errors import PeerError
from msilo_core.fields import STAR
from msilo_core.flow import Flow
from msilo_core.limits import Limits
from msilo_core.message import Request, Response
from msilo_core.nexthop import NextHop
from msilo_core.parameters import SiloConfig, header_lines
from msilo_core.pseudovars import Template, parse_template
from msilo_core.relay import DELIVERY_MARK, MAX_FORWARDS
from msilo_core.route import Call
from msilo_core.statistics import Statistics
from msilo_core.transactions import ClientTransaction, ClientTransactions
from msilo_core.transport import via_value
from msilo_core.uri import Aor, parse_uri

__all__ = ["Notifier"]

PAUSE_MS: Final = 60_000
"""Between two notifications to the same sender about the same owner: a person reads the first."""


class Notifier:
    """Tells senders that their messages were stored, where the parameters of msilo say so.

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

    def notify(self, call: Call, owner: Aor, now: Moment) -> list[Action]:
        """The message of a call was stored for an owner: tell its sender, if that is wanted and was not done lately."""
        config = self._config
        if not self._is_on or config.skip_notification_flag in call.flags or self._clients.is_full:
            return []
        request = call.request
        sender = request.from_.uri_text
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
        flow, request_uri, route = self._way(call, _request_uri_of(request, config.use_contact))
        branch = f"{self._entropy.branch()}.{DELIVERY_MARK}"
        headers = [
            ("Via", via_value(flow, branch)),
            ("Max-Forwards", str(MAX_FORWARDS)),
            *([("Route", route)] if route else []),
            ("From", f"<{address}>;tag={self._entropy.tag()}"),
            ("To", f"<{sender}>"),
            ("Call-ID", self._entropy.call_id()),
            ("CSeq", "1 MESSAGE"),
            *(_named(template, call) for template in self._headers),
        ]
        body = self._body.render(call).encode("utf-8", "surrogateescape")
        data = build_request("MESSAGE", request_uri, headers, body)
        return self._clients.begin(branch, "MESSAGE", flow, data, self, now)

    def answered(
        self, transaction: ClientTransaction, status: int, response: Response | None, now: Moment
    ) -> list[Action]:
        """A notification has its answer, and nothing comes of it (:class:`msilo_core.transactions.ClientUser`)."""
        del transaction, status, response, now
        return []

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
