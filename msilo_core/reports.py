"""What the sender of a MESSAGE is told when it can never be delivered: an IMDN (RFC 5438), where he asked for that.

Hours later nobody knows the way that a message came by, and its sender may be away. So what tells him is stored like a
message that somebody wrote to him, and delivered as those are: in its turn, to where he is registered or by way of the
outbound proxy, and not after it expired. A sender whose domain is not ours is told by way of that proxy alone.

It is never the cause of another: nothing in its row asks for that. And it is the same each time that it is made of the
same row, so that a store, or else a phone, that has it already can tell.
"""

from collections.abc import Callable
from functools import partial

from msilo_core.actions import Action, Completion, Message, Refused, StorageFailed, Store, Stored
from msilo_core.clock import Moment
from msilo_core.desk import Desk, Share
from msilo_core.entropy import Entropy
from msilo_core.errors import LocalError, PeerError
from msilo_core.imdn import CPIM_TYPE, Disposition, build_imdn, read_im
from msilo_core.parameters import SiloConfig
from msilo_core.rows import derived
from msilo_core.statistics import Statistics
from msilo_core.uri import Aor, parse_uri

__all__ = ["Reports", "return_address"]


class Reports:
    """Tells senders that their messages can never be delivered.

    Args:
        config: the parameters of msilo.
        desk: where completions are awaited.
        entropy: for Message-IDs.
        statistics: counted in.
        reaches: whether what is stored for an owner of a domain may ever be delivered from here.
        deliver: begins to deliver what waits for an owner.
    """

    def __init__(
        self,
        config: SiloConfig,
        desk: Desk,
        entropy: Entropy,
        statistics: Statistics,
        *,
        reaches: Callable[[str], bool],
        deliver: Callable[[Aor, Moment], list[Action]],
    ) -> None:
        self._config = config
        self._desk = desk
        self._entropy = entropy
        self._statistics = statistics
        self._reaches = reaches
        self._deliver = deliver
        self._under_way = 0

    @property
    def is_busy(self) -> bool:
        """Whether what was told last is not stored yet."""
        return self._under_way > 0

    def failed(self, message: Message, now: Moment) -> list[Action]:
        """A stored message was refused for good, or has expired: tell its sender, if he is to be told."""
        if not message.imdn or not self._config.imdn:
            return []
        report = self._report(message, now)
        if report is None or self._desk.is_full(Share.STORE):
            self._statistics.lost_imdns += 1
            return []
        self._under_way += 1
        token = self._desk.issue_patiently(partial(self._kept, report.owner), Share.STORE)
        config = self._config
        return [Store(token, report, config.max_messages, config.max_bytes, config.max_messages_per_sender)]

    def _report(self, message: Message, now: Moment) -> Message | None:
        """Return what is stored for the sender; None if nobody could be told, or of nothing."""
        sender = return_address(message.src_addr)
        im = read_im(message.ctype, message.body)
        if sender is None or im is None or not self._reaches(sender.domain):
            return None
        body = build_imdn(
            im,
            Disposition.FAILED,
            self._entropy.call_id(),
            sender_uri=message.src_addr,
            recipient_uri=message.dst_addr,
            stored_s=message.inc_time_s,
            now_s=now.unix_s,
        )
        tag = derived(message, "imdn-tag")
        return Message(
            owner=sender,
            src_addr=message.dst_addr,
            dst_addr=message.src_addr,
            inc_time_s=now.unix_s,
            exp_time_s=now.unix_s + self._config.expire_time,
            ctype=CPIM_TYPE,
            body=body,
            callid=derived(message, "imdn"),
            cseq=1,
            from_tag=tag,
            from_hdr=f"<{message.dst_addr}>;tag={tag}",
            to_hdr=f"<{message.src_addr}>",
        )

    def _kept(self, owner: Aor, completion: Completion, now: Moment) -> list[Action]:
        self._under_way -= 1
        if isinstance(completion, Stored):
            self._statistics.imdns += not completion.repeated
            return self._deliver(owner, now)
        if isinstance(completion, StorageFailed):
            self._statistics.storage_failures += 1
        elif not isinstance(completion, Refused):
            raise LocalError(f"{type(completion).__name__} does not answer Store")
        self._statistics.lost_imdns += 1
        return []


def return_address(uri: str) -> Aor | None:
    """Return where a sender may be told something; None for one who is anonymous, or has no address of record.

    "As there is no return address, anonymous IM Senders SHOULD NOT request disposition notifications" (RFC 5438 section
    12.1.1). Their host is ``anonymous.invalid`` (RFC 3323 section 4.1.1.3).
    """
    try:
        aor = parse_uri(uri).aor()
    except PeerError:
        return None
    return None if aor.domain.endswith(".invalid") else aor
