"""What the silo keeps, and as what: the rules between a MESSAGE and its row."""

import re
from datetime import datetime, tzinfo
from typing import Final

from msilo_core.actions import Message
from msilo_core.admission import refuse_extensions
from msilo_core.errors import PeerError, Unsupported
from msilo_core.identity import hidden_headers
from msilo_core.imdn import NEGATIVE_DELIVERY, read_im
from msilo_core.message import Request
from msilo_core.parameters import SiloConfig, check_header_lines, header_lines
from msilo_core.pseudovars import AvpValue, parse_avp_name
from msilo_core.relay import is_delivery
from msilo_core.route import Call
from msilo_core.rows import AlreadyExpired, row_of
from msilo_core.uri import Aor

__all__ = ["Intake", "StoredElsewhere", "parse_send_time"]


class StoredElsewhere(PeerError):
    """It comes out of a silo, perhaps this one, which keeps it until it is told that a phone has it.

    Not 482: on a repeat that means that the phone has it.
    """

    status_hint = 480

    def __init__(self) -> None:
        super().__init__("stored elsewhere")


class NotKept(PeerError):
    """Its media type is none of those that are stored."""

    status_hint = 415

    def __init__(self, media_type: str) -> None:
        super().__init__(f"{media_type} is not stored")


class Intake:
    """Makes rows of MESSAGEs.

    Args:
        config: the parameters of msilo.
        may_repeat_until_ms: until when what a sender began with a server before this one may come again.
    """

    def __init__(self, config: SiloConfig, may_repeat_until_ms: int) -> None:
        self._config = config
        self._may_repeat_until_ms = may_repeat_until_ms
        self._snd_time = parse_avp_name(config.snd_time_avp) if config.snd_time_avp else ""
        self._extra_hdrs = parse_avp_name(config.extra_hdrs_avp) if config.extra_hdrs_avp else ""
        self._content_types = frozenset(text.lower() for text in config.content_types)

    @property
    def accept(self) -> str:
        """Value of Accept for who sent what is not kept."""
        return ", ".join(self._config.content_types)

    def row_of(self, call: Call, owner: Aor, src_addr: str, dst_addr: str) -> Message | None:
        """Return the row that keeps a MESSAGE, or None for one that says only what was true when it was sent.

        Args:
            call: it.
            owner: whose inbox it goes to.
            src_addr: URI of the sender.
            dst_addr: URI of the recipient.

        Raises:
            PeerError: it is not to be kept; the hint of the error is what to answer.
            LocalError: the route left no header lines in `extra_hdrs_avp`, or such as the server writes itself.
        """
        request = call.request
        if is_delivery(request):
            raise StoredElsewhere
        if "require" in request.head.first and refuse_extensions(request, "require") is not None:
            # Whoever answers a request itself must understand all that it requires; a phone might have.
            raise Unsupported(request.get("require") or "", 420)
        content_type = request.content_type
        if self._is_passing(request, content_type):
            return None
        # One that a phone may have seen live: its 482 will mean that it has it. Where this server has just begun, a
        # repeat of what one before it sent on looks like a new request.
        call.im = read_im(content_type, request.body) if self._config.imdn else None
        is_imdn_wanted = call.im is not None and NEGATIVE_DELIVERY in call.im.asked
        attempts = 0 if call.fork is None else 1
        is_seen = call.arrived.mono_ms < self._may_repeat_until_ms or (call.fork is not None and call.fork.may_be_known)
        reached = 1 if is_seen else 0
        row = row_of(
            request, owner, src_addr, dst_addr, attempts, reached,
            hidden_headers(request, call.is_trusted, is_trusted_target=True),
            self._config, call.arrived, snd_time_s=self._snd_time_s(call) if self._snd_time else 0,
            extra_hdrs=self._own_headers(call) if self._extra_hdrs else None,
            imdn=int(is_imdn_wanted and self._config.skip_notification_flag not in call.flags),
        )  # fmt: skip
        if row.exp_time_s <= call.now.unix_s:
            raise AlreadyExpired("it expired on the way")
        return row

    def keeps(self, request: Request) -> bool:
        """Say whether a MESSAGE is one to keep, as far as it says so itself."""
        try:
            is_kept = not is_delivery(request) and refuse_extensions(request, "require") is None
            return is_kept and request.expires_s != 0 and not self._is_passing(request, request.content_type)
        except PeerError:
            return False

    def _is_passing(self, request: Request, content_type: str) -> bool:
        """Say whether a MESSAGE is a notice of somebody typing (RFC 3994); refuse one of another type than is kept."""
        if not self._content_types and "iscomposing" not in content_type.lower():
            return False
        media_type = request.media_type
        if media_type is None:
            # RFC 3261 section 7.4.1 has no default for a body, and one without a type has none to refuse.
            return False
        name = f"{media_type.type}/{media_type.subtype}"
        if name == _IS_COMPOSING:
            return True
        if self._content_types.isdisjoint({name, f"{media_type.type}/*", "*/*"}) and self._content_types:
            raise NotKept(name)
        return False

    def _snd_time_s(self, call: Call) -> int:
        value = call.avps.get(self._snd_time)
        due_s = None if value is None else parse_send_time(value, self._config.zone)
        return due_s if due_s is not None and due_s > call.now.unix_s else 0

    def _own_headers(self, call: Call) -> str | None:
        value = call.avps.get(self._extra_hdrs)
        if value is None:
            return None
        text = str(value)
        check_header_lines("extra_hdrs_avp", text)
        return "".join([f"{line}\r\n" for line in header_lines(text)])


def parse_send_time(value: AvpValue, zone: tzinfo) -> int | None:
    """Return the instant that ``YYYYMMDDHHMMSS`` names in a zone, in seconds since 1970; None if it names none."""
    match = _SEND_TIME.fullmatch(str(value).strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp())
    except (ValueError, OverflowError):
        return None


_IS_COMPOSING: Final = "application/im-iscomposing+xml"
_SEND_TIME: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})")
