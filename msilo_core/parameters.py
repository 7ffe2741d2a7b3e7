"""The parameters of Kamailio's msilo under their own names, and the few of ours that stand beside them."""

import re
import zoneinfo
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from msilo_core.errors import LocalError, PeerError
from msilo_core.fields.numbers import DELTA_SECONDS_MAX
from msilo_core.head import COMPACT
from msilo_core.nexthop import parse_proxy
from msilo_core.pseudovars import parse_avp_name, parse_template
from msilo_core.uri import parse_uri

__all__ = ["ReminderSender", "SiloConfig"]

ReminderSender: TypeAlias = Literal["reminder", "original"]
"""See :class:`SiloConfig`."""

COLUMNS: Final = {
    "sc_mid": "id",
    "sc_from": "src_addr",
    "sc_to": "dst_addr",
    "sc_uri_user": "username",
    "sc_uri_host": "domain",
    "sc_inc_time": "inc_time",
    "sc_exp_time": "exp_time",
    "sc_snd_time": "snd_time",
    "sc_ctype": "ctype",
    "sc_body": "body",
    "sc_stored_hdrs": "extra_hdrs",
    "sc_callid": "callid",
    "sc_status": "status",
}
"""The parameters that rename a column of Kamailio's, in the order of the table, and what each is by default."""


class SiloConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The silo's parameters under the names of Kamailio's msilo, all but ``db_url``, which is the storage URL.

    Those called templates may hold pseudo-variables (:mod:`msilo_core.pseudovars`). Header lines end in CRLF; the
    last may lack it.

    Attributes:
        db_table: name of the table.
        sc_mid, sc_from, sc_to, sc_uri_user, sc_uri_host, sc_inc_time, sc_exp_time, sc_snd_time, sc_ctype, sc_body,
            sc_stored_hdrs, sc_callid, sc_status: names of its columns.
        from_address: template, From URI of the notification that a sender gets whose message was stored; empty: no
            notification.
        contact_hdr: template, Contact header lines of the notification.
        offline_message: template, body of the notification; empty: no notification.
        content_type_hdr: template, Content-Type header line of the notification; needed with `offline_message`.
        extra_hdrs: template, header lines that are added to each stored MESSAGE that is delivered, evaluated against
            the REGISTER that brought it on.
        reminder: SIP URI that deferred messages come from; empty: they come from who sent them.
        outbound_proxy: SIP URI, with an IP address for a host, of the next hop of all that the silo sends: stored
            messages then go to their owner's address of record by way of it, not to his contacts. Empty: none.
        expire_time: seconds that a stored message lives, at least 1; its Expires header may shorten that.
        check_time: seconds between two rounds of the cleaner, at least 1.
        send_time: seconds between two looks for deferred messages that are due; 0: none are sent.
        clean_period: expired rows are deleted every `check_time` times `clean_period` seconds, at least 1.
        use_contact: 1: the notification is for the Contact URI of the sender, if there was one; 0: for the From URI.
        snd_time_avp: AVP with the time that a message is deferred to, ``YYYYMMDDHHMMSS``; empty: none.
        add_date: 1 puts ``[Offline message - <date>]`` before text/plain bodies; 0 leaves every body as it is.
        max_messages: most messages stored for one owner; 0: no bound.
        add_contact: 1 puts ``Contact: <From URI>;msilo=yes`` into what is delivered, in place of the sender's own;
            RFC 3428 wants neither.
        extra_hdrs_avp: AVP with the header lines to store instead of the request's own; empty: none.
        skip_notification_flag: number of the flag, 0 to 31, that keeps a message from causing a notification; -1: none.
        use_mode: 1 delivers with the Call-ID of the stored request, as we always do; 0 is taken, and no different.
        reminder_sender: ``reminder``: deferred messages come from `reminder`, as from the original; ``original``: from
            who sent them.
        time_zone: of `snd_time_avp` and of the dates in bodies, a name such as ``Europe/Rome``.
        content_types: media types that are stored, such as ``text/plain`` or ``text/*``; empty: all.
        imdn: 1 tells senders that ask for it by IMDN (RFC 5438) that their message was stored, in place of the
            notification above, and that it can never be delivered; 0 tells them neither.
        max_bytes: most octets, of bodies and header values, of the messages stored for one owner; 0: no bound.
        max_messages_per_sender: most messages of one sender that are stored for one owner; 0: no bound.
    """

    db_table: str = "silo"
    sc_mid: str = COLUMNS["sc_mid"]
    sc_from: str = COLUMNS["sc_from"]
    sc_to: str = COLUMNS["sc_to"]
    sc_uri_user: str = COLUMNS["sc_uri_user"]
    sc_uri_host: str = COLUMNS["sc_uri_host"]
    sc_inc_time: str = COLUMNS["sc_inc_time"]
    sc_exp_time: str = COLUMNS["sc_exp_time"]
    sc_snd_time: str = COLUMNS["sc_snd_time"]
    sc_ctype: str = COLUMNS["sc_ctype"]
    sc_body: str = COLUMNS["sc_body"]
    sc_stored_hdrs: str = COLUMNS["sc_stored_hdrs"]
    sc_callid: str = COLUMNS["sc_callid"]
    sc_status: str = COLUMNS["sc_status"]
    from_address: str = ""
    contact_hdr: str = ""
    offline_message: str = ""
    content_type_hdr: str = ""
    extra_hdrs: str = ""
    reminder: str = ""
    outbound_proxy: str = ""
    expire_time: int = 259_200
    check_time: int = 60
    send_time: int = 0
    clean_period: int = 10
    use_contact: int = 1
    snd_time_avp: str = ""
    add_date: int = 0
    max_messages: int = 0
    add_contact: int = 0
    extra_hdrs_avp: str = ""
    skip_notification_flag: int = -1
    use_mode: int = 0
    reminder_sender: ReminderSender = "reminder"
    time_zone: str = "UTC"
    content_types: tuple[str, ...] = ()
    imdn: int = 1
    max_bytes: int = 0
    max_messages_per_sender: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value: int = getattr(self, name)
            if not low <= value <= high:
                raise LocalError(f"{name} = {value} is out of range: give {_range(low, high)}")
        self._check_names()
        self._check_templates()
        for name in ("snd_time_avp", "extra_hdrs_avp"):
            text: str = getattr(self, name)
            _checked(name, text, parse_avp_name)
        _checked("reminder", self.reminder, _parse_uri_of_aor)
        if self.outbound_proxy:
            parse_proxy("outbound_proxy", self.outbound_proxy)
        _checked("time_zone", self.time_zone, zoneinfo.ZoneInfo)
        for text in self.content_types:
            if _MEDIA_RANGE.fullmatch(text) is None:
                raise LocalError(f"content_types: {text!r} is no media type: give one such as text/plain or text/*")

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """`time_zone`."""
        return zoneinfo.ZoneInfo(self.time_zone)

    def _check_names(self) -> None:
        taken: dict[str, str] = dict.fromkeys(_OUR_COLUMNS, "msilo itself")
        for parameter in ("db_table", *COLUMNS):
            name: str = getattr(self, parameter)
            if _IDENTIFIER.fullmatch(name) is None:
                raise LocalError(
                    f"{parameter} = {name!r} is no name: give up to 63 letters, digits and _, not a digit first"
                )
            if parameter == "db_table":
                continue
            if name.lower() in taken:
                raise LocalError(
                    f"{parameter} = {name!r} is the column of {taken[name.lower()]} too: give another name"
                )
            taken[name.lower()] = parameter

    def _check_templates(self) -> None:
        for name in ("from_address", "contact_hdr", "offline_message", "content_type_hdr", "extra_hdrs"):
            text: str = getattr(self, name)
            _checked(name, text, parse_template)
        if not _may_be_aor(self.from_address):
            raise LocalError(
                f"from_address = {self.from_address!r} is no SIP URI: give one such as sip:registrar@example.com"
            )
        for name, header in (("contact_hdr", "Contact"), ("content_type_hdr", "Content-Type"), ("extra_hdrs", "")):
            text = getattr(self, name)
            check_header_lines(name, text, header)
        if self.add_contact and any(_name_of(line) == "contact" for line in header_lines(self.extra_hdrs)):
            raise LocalError("extra_hdrs: add_contact = 1 writes a Contact too: leave one of the two out")
        if len(header_lines(self.content_type_hdr)) > 1:
            raise LocalError(f"content_type_hdr = {self.content_type_hdr!r} is more than one line: give one")
        if self.offline_message and not self.content_type_hdr:
            raise LocalError(
                "content_type_hdr = '' does not go with offline_message: give one such as 'Content-Type: text/plain'"
            )


_FLAG = (0, 1)
_COUNT_MAX: Final = 2**31 - 1
# Nobody has a disk that large, and the sums of a database are.
_BYTES_MAX: Final = 2**53
_RANGES: Final = {
    "expire_time": (1, DELTA_SECONDS_MAX),
    "check_time": (1, DELTA_SECONDS_MAX),
    "send_time": (0, DELTA_SECONDS_MAX),
    "clean_period": (1, DELTA_SECONDS_MAX),
    "use_contact": _FLAG,
    "add_date": _FLAG,
    "max_messages": (0, _COUNT_MAX),
    "add_contact": _FLAG,
    "skip_notification_flag": (-1, 31),
    "use_mode": _FLAG,
    "imdn": _FLAG,
    "max_bytes": (0, _BYTES_MAX),
    "max_messages_per_sender": (0, _COUNT_MAX),
}

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_OUR_COLUMNS: Final = (
    "cseq", "from_tag", "from_hdr", "to_hdr", "date_hdr", "repeats", "attempts", "reached", "next_time", "imdn",
    "last_status", "reason", "taken_by", "lease_node", "lease_until",
)  # fmt: skip
_HEADER_LINE: Final = re.compile(r"([A-Za-z0-9\-.!%*_+`'~]+)[ \t]*:([^\r\n\0]*)")
_NOT_EXTRA: Final = frozenset(
    {"via", "max-forwards", "from", "to", "call-id", "cseq", "route", "content-length", "content-type", "date"}
)
_MEDIA_RANGE: Final = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+/[A-Za-z0-9\-.!%*_+`'~]+")


def _may_be_aor(text: str) -> bool:
    """Say whether a template may become the URI of an address of record; what begins with a variable may be any."""
    parts = parse_template(text).parts
    if not parts or not isinstance(parts[0], str):
        return True
    text = "".join([part if isinstance(part, str) else "x" for part in parts])
    try:
        # No port is a letter, nor an address in brackets.
        _parse_uri_of_aor(re.sub(":[0-9]*x(?=;|$)", "", text.replace("[x]", "[::1]")))
    except PeerError:
        return False
    return True


def _parse_uri_of_aor(text: str) -> None:
    # An address of record may be written without its scheme, but not in a header.
    parse_uri(text).aor()


def check_header_lines(name: str, text: str, header: str = "") -> None:
    """Check header lines that an operator gave.

    Args:
        name: of the parameter.
        text: the lines.
        header: the header that they must be; if empty, any but those that the server writes itself.

    Raises:
        LocalError: they are not; the text says what to give.
    """
    for line in header_lines(text):
        match = _HEADER_LINE.fullmatch(line)
        key = _name_of(line)
        if match is None or (header and (key != header.lower() or not match[2].strip())):
            example = f"{header or 'X-Name'}: value"
            raise LocalError(f"{name}: {line!r} is no header line: give one such as {example!r}, CRLF behind it")
        if not header and key in _NOT_EXTRA:
            raise LocalError(f"{name}: {match[1]} is written by the server: leave it out")


def _name_of(line: str) -> str:
    name = line.partition(":")[0].rstrip(" \t").lower()
    return COMPACT.get(name, name)


def header_lines(text: str) -> list[str]:
    """Return the header lines of a text, without the CRLF behind each; the last may lack it."""
    return text.removesuffix("\r\n").split("\r\n") if text else []


def _range(low: int, high: int) -> str:
    return f"{low} or {high}" if high - low == 1 else f"{low} to {high}"


def _checked(name: str, text: str, parse: Callable[[str], object]) -> None:
    if not text:
        return
    try:
        parse(text)
    except LocalError as error:
        raise LocalError(f"{name}: {error}") from None
    except PeerError:
        raise LocalError(f"{name} = {text!r} is no SIP URI: give one such as sip:reminder@example.com") from None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise LocalError(f"{name} = {text!r} is not known: give a name such as Europe/Rome, or UTC") from None
