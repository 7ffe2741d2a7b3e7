"""Between the core's values and the columns of the tables, as SQLite and PostgreSQL share them.

Text that must come back octet for octet, and that a peer chose (header values, Contact parameters, Path), is
kept as octets. Text that is a key or a URI is kept as text, and the core promises that it is valid.
"""

from collections.abc import Sequence
from typing import Any, Final

from msilo_core.actions import Binding, Message
from msilo_core.flow import Flow
from msilo_core.uri import Aor
from msilo_core.users import User

__all__ = [
    "BINDING_COLUMNS",
    "MESSAGE_COLUMNS",
    "NEW_MESSAGE_COLUMNS",
    "NEW_MESSAGE_WORDS",
    "NEW_USER_COLUMNS",
    "READ_MESSAGE",
    "USER_COLUMNS",
    "aor_values",
    "binding_from",
    "binding_values",
    "message_from",
    "message_values",
    "octets_of",
    "repeat_key",
    "text_of",
    "user_from",
    "user_values",
]

NEW_MESSAGE_COLUMNS: Final = (
    "username", "domain", "src_addr", "dst_addr", "inc_time", "exp_time", "snd_time", "ctype", "body", "extra_hdrs",
    "callid", "cseq", "from_tag", "from_hdr", "to_hdr", "date_hdr", "attempts", "reached", "next_time", "imdn",
)  # fmt: skip
"""What is written when a message is stored, in the order of :func:`message_values`."""

NEW_MESSAGE_WORDS: Final = ", ".join(f"{{{column}}}" for column in NEW_MESSAGE_COLUMNS)
"""The same as a list for :class:`msilo_storage.tables.Sql`."""

MESSAGE_COLUMNS: Final = (*NEW_MESSAGE_COLUMNS, "id", "status", "reason", "taken_by")
"""What is read, in the order that :func:`message_from` takes."""

READ_MESSAGE: Final = ", ".join(f"silo.{{{column}}} AS {column}" for column in MESSAGE_COLUMNS)
"""The same as a list for :class:`msilo_storage.tables.Sql`, of a table that is called ``silo``."""

BINDING_COLUMNS: Final = (
    "username", "domain", "contact", "params", "q", "expires", "callid", "cseq", "path", "instance", "reg_id",
    "methods", "transport", "local_host", "local_port", "remote_host", "remote_port", "flow_token", "node",
    "updated_ms",
)  # fmt: skip
"""All of ``silo_location``, in the order of :func:`binding_values` and :func:`binding_from`."""


USER_COLUMNS: Final = ("username", "domain", "ha1", "ha1b", "ha1_sha256", "ha1_sha512_256", "ha1_then")
"""What is read of ``subscriber``, in the order that :func:`user_from` takes."""

NEW_USER_COLUMNS: Final = (*USER_COLUMNS, "password")
"""What is written when a user is added or changed, in the order of :func:`user_values`."""


def message_values(message: Message) -> tuple[Any, ...]:
    """Return the values of :data:`NEW_MESSAGE_COLUMNS`; ``extra_hdrs`` as octets."""
    owner = message.owner
    return (
        owner.username,
        owner.domain,
        message.src_addr,
        message.dst_addr,
        message.inc_time_s,
        message.exp_time_s,
        message.snd_time_s,
        message.ctype,
        message.body,
        octets_of(message.extra_hdrs),
        message.callid,
        message.cseq,
        message.from_tag,
        octets_of(message.from_hdr),
        octets_of(message.to_hdr),
        octets_of(message.date_hdr),
        message.attempts,
        message.reached,
        message.next_time_s,
        message.imdn,
    )


def message_from(row: Sequence[Any]) -> Message:
    """Return the message in a row of :data:`MESSAGE_COLUMNS`; ``extra_hdrs`` as octets, text or None."""
    return Message(
        owner=Aor(row[0], row[1]),
        src_addr=row[2],
        dst_addr=row[3],
        inc_time_s=row[4],
        exp_time_s=row[5],
        snd_time_s=row[6],
        ctype=row[7],
        body=octets_of(row[8]),
        extra_hdrs=text_of(row[9]),
        callid=row[10],
        cseq=row[11],
        from_tag=row[12],
        from_hdr=text_of(row[13]),
        to_hdr=text_of(row[14]),
        date_hdr=text_of(row[15]),
        attempts=row[16],
        reached=row[17],
        next_time_s=row[18],
        imdn=row[19],
        message_id=row[20],
        status=row[21],
        reason=row[22],
        taken_by=row[23],
    )


def repeat_key(message: Message) -> tuple[str, str, str, int, str] | None:
    """Return what tells a repeat from a new message (RFC 3261 section 8.2.2.2); None for one that Kamailio wrote."""
    if message.cseq < 0:
        return None
    return message.owner.username, message.owner.domain, message.callid, message.cseq, message.from_tag


def binding_values(owner: Aor, binding: Binding) -> tuple[Any, ...]:
    """Return the values of :data:`BINDING_COLUMNS`."""
    flow = binding.flow
    return (
        owner.username,
        owner.domain,
        binding.contact,
        octets_of(binding.params),
        binding.q,
        binding.expires_s,
        binding.callid,
        binding.cseq,
        octets_of(binding.path),
        octets_of(binding.instance),
        binding.reg_id,
        octets_of(binding.methods),
        flow.transport,
        flow.local[0],
        flow.local[1],
        flow.remote[0],
        flow.remote[1],
        flow.token,
        binding.node,
        binding.updated_ms,
    )


def binding_from(row: Sequence[Any]) -> Binding:
    """Return the binding in a row of :data:`BINDING_COLUMNS`."""
    return Binding(
        contact=row[2],
        params=text_of(row[3]),
        q=row[4],
        expires_s=row[5],
        callid=row[6],
        cseq=row[7],
        path=text_of(row[8]),
        instance=text_of(row[9]),
        reg_id=row[10],
        methods=text_of(row[11]),
        flow=Flow(transport=row[12], local=(row[13], row[14]), remote=(row[15], row[16]), token=row[17]),
        node=row[18],
        updated_ms=row[19],
    )


def user_values(user: User) -> tuple[str, ...]:
    """Return the values of :data:`NEW_USER_COLUMNS`, without a password: whoever had one has another now."""
    return (*aor_values(user.owner), user.ha1, user.ha1b, user.ha1_sha256, user.ha1_sha512_256, user.ha1, "")


def user_from(row: Sequence[Any]) -> User:
    """Return the user in a row of :data:`USER_COLUMNS`.

    The HA1s of our own columns count as long as `ha1` is what it was when they were written. Kamailio does not know
    them: where it, or any tool of it, gives a user another password, they are still of the old one.
    """
    username, domain, ha1, ha1b, ha1_sha256, ha1_sha512_256, ha1_then = row
    if ha1 != ha1_then:
        ha1_sha256 = ha1_sha512_256 = ""
    return User(owner=Aor(username, domain), ha1=ha1, ha1b=ha1b, ha1_sha256=ha1_sha256, ha1_sha512_256=ha1_sha512_256)


def aor_values(owner: Aor) -> tuple[str, str]:
    """Return the columns ``username`` and ``domain``."""
    return owner.username, owner.domain


def octets_of(value: str | bytes | None) -> bytes:
    """Return the octets that text was decoded from; those of a column may be octets already, or NULL."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value or b""


def text_of(value: str | bytes | None) -> str:
    """Return octets as text that :func:`octets_of` turns back; NULL is empty."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value or ""
