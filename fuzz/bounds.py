"""The engine's books against its limits. They are private: nothing but a check of them may look."""
# pyright: reportPrivateUsage=false

from collections import Counter
from collections.abc import Sequence

from msilo_core import Engine, Limits
from msilo_core.actions import Dump, Expire, Remind, Renew, Retry, Settle, StorageAction
from msilo_core.desk import Share
from msilo_core.silo import PAGE_GROWTH

__all__ = ["check_bounds"]


def check_bounds(engine: Engine, limits: Limits, awaited: Sequence[StorageAction], *, is_over: bool = False) -> None:
    """Check that nothing has grown over its limit, and that all is empty where a story is over.

    Args:
        engine: of which the story is told.
        limits: of the engine.
        awaited: storage actions without a completion.
        is_over: whether nothing is under way any more.
    """
    _check_transactions(engine, limits)
    _check_silo(engine, limits)
    _check_store(engine, limits, awaited)
    assert engine._streams_bytes <= limits.streams_bytes_max
    _check_notifier(engine, limits)
    if is_over:
        left = [engine._silo._inboxes, engine._silo._ledger._unsettled, engine._streams, engine._servers._claims]
        assert not any(left), left
        assert not any([engine._notifier._lines, engine._notifier._senders, engine._reports.is_busy])
        servers, clients = engine._servers, engine._clients
        counts = [servers.active_count, clients.active_count, engine._silo._turns.taken]
        sizes = [servers._active_bytes, clients._active_bytes, engine._streams_bytes]
        assert not any(counts + sizes), (counts, sizes)


def _check_transactions(engine: Engine, limits: Limits) -> None:
    servers, clients = engine._servers, engine._clients
    assert servers.active_count <= limits.server_transactions_max
    assert servers.finished_count <= limits.finished_transactions_max
    assert servers.finished_bytes <= limits.finished_transactions_bytes_max
    # What comes while there is room goes on, to every contact.
    message_bytes = limits.message_bytes_max
    assert servers._active_bytes < limits.server_transactions_bytes_max + message_bytes
    group_bytes = limits.bindings_per_aor_max * (message_bytes + 500)
    assert clients._active_bytes < limits.client_transactions_bytes_max + group_bytes
    assert clients.active_count <= limits.client_transactions_max
    assert len(clients._completed) <= limits.finished_transactions_max


def _check_notifier(engine: Engine, limits: Limits) -> None:
    notifier = engine._notifier
    assert len(notifier._told_ms) <= limits.notified_max
    assert engine._senders is None or len(engine._senders) <= limits.senders_max
    assert {*notifier._lines} == {*notifier._senders.values()}, "somebody waits for nobody"
    assert notifier._waiting == sum(map(len, notifier._lines.values())) <= limits.imdns_waiting_max
    assert all(len(line) <= limits.imdns_per_sender_max for line in notifier._lines.values())


def _check_silo(engine: Engine, limits: Limits) -> None:
    silo = engine._silo
    assert silo._turns.taken <= limits.deliveries_max
    assert len(silo._turns.awaited) <= limits.deliveries_waiting_max
    leased = sum(len(inbox.page) for inbox in silo._inboxes.values())
    assert leased < 2 * limits.deliveries_max * limits.page_messages_max + 1
    for inbox in silo._inboxes.values():
        assert len(inbox.line) <= limits.waiting_per_owner_max
        assert len(inbox.page) <= PAGE_GROWTH * limits.page_messages_max
        assert len(inbox.untold) <= len(inbox.settling) <= PAGE_GROWTH * limits.page_messages_max
        assert len(inbox.bindings) <= limits.bindings_per_aor_max
        assert max(len(inbox.walkers), len(inbox.left_out)) <= limits.bindings_per_aor_max
        assert inbox.taken_next.keys() <= inbox.settling


def _check_store(engine: Engine, limits: Limits, awaited: Sequence[StorageAction]) -> None:
    """What has no deadline is bounded by what it is for: each page, and each round."""
    counts = [share.count for share in engine._desk._shares]
    assert all(count <= limits.storage_actions_max for count in counts[: len(Share)]), counts
    deliveries = limits.deliveries_max * (2 * limits.page_messages_max + 2)
    assert counts[-1] <= limits.server_transactions_max + deliveries + 3
    assert sum(counts) == len(awaited)
    assert sum(isinstance(action, Expire) for action in awaited) <= 1, "the store is asked to clean while it cleans"
    assert sum(isinstance(action, Remind) for action in awaited) <= 1, "the store is asked what is due while it looks"
    assert sum(isinstance(action, Retry) for action in awaited) <= 1, "the store is asked what is due while it looks"
    renewals = Counter(action.owner for action in awaited if isinstance(action, Renew))
    dumps = Counter(action.owner for action in awaited if isinstance(action, Dump))
    settles = Counter(action.message_id for action in awaited if isinstance(action, Settle))
    assert not [count for count in (*dumps.values(), *renewals.values(), *settles.values()) if count > 1], (
        "the same is asked twice"
    )
    assert engine._desk.is_idle == (not awaited)
