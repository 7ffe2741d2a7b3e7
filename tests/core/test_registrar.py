"""RFC 3261 section 10.3 as a pure function."""

import pytest

from msilo_core import Aor, Flow
from msilo_core.actions import Bind, Binding
from msilo_core.registrar import Rebinding, Rejection, preferred, rebind

NOW_S = 1_000
FLOW = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5072))
BOB = Aor("bob", "example.com")


def binding(
    contact: str, *, expires_s: int = 2_000, callid: str = "c", cseq: int = 1, q: int = 1000, ms: int = 0
) -> Binding:
    return Binding(contact=contact, expires_s=expires_s, callid=callid, cseq=cseq, q=q, flow=FLOW, updated_ms=ms)


def change(*contacts: Binding, callid: str = "c", cseq: int = 2, remove_all: bool = False, most: int = 10) -> Bind:
    return Bind(1, BOB, NOW_S, callid, cseq, contacts, remove_all, most)


def test_new_contact_is_added() -> None:
    known, new = binding("sip:a@h"), binding("sip:b@h", cseq=2)
    assert rebind((known,), change(new)) == Rebinding((known, new), (new,), ())


def test_asking_changes_nothing_and_passes_over_what_has_run_out() -> None:
    known, over = binding("sip:a@h"), binding("sip:b@h", expires_s=NOW_S)
    assert rebind((known, over), change()) == Rebinding((known,), (), ())


def test_refresh_replaces_by_uri_comparison() -> None:
    known, new = binding("sip:a@HOST:5060"), binding("sip:a@host:5060", cseq=2)
    assert rebind((known,), change(new)) == Rebinding((new,), (new,), ("sip:a@HOST:5060",))
    same = binding("sip:a@HOST:5060", cseq=2)
    assert rebind((known,), change(same)) == Rebinding((same,), (same,), ())


def test_contact_that_ends_now_is_removed() -> None:
    known, gone = binding("sip:a@h"), binding("sip:a@h", expires_s=NOW_S, cseq=2)
    assert rebind((known,), change(gone)) == Rebinding((), (), ("sip:a@h",))
    assert rebind((), change(gone)) == Rebinding((), (), ())


def test_star_removes_all() -> None:
    known = (binding("sip:a@h"), binding("sip:b@h", callid="other", cseq=9))
    assert rebind(known, change(remove_all=True)) == Rebinding((), (), ("sip:a@h", "sip:b@h"))


@pytest.mark.parametrize("cseq", [0, 1])
def test_older_request_of_the_same_call_id_fails_as_a_whole(cseq: int) -> None:
    known, new = binding("sip:a@h"), binding("sip:b@h", cseq=cseq)
    refused = rebind((known,), change(new, binding("sip:a@h", cseq=cseq), cseq=cseq))
    assert refused == Rejection(500, "CSeq Out of Order")
    assert rebind((known,), change(cseq=cseq, remove_all=True)) == refused
    assert isinstance(rebind((known,), change(binding("sip:a@h", callid="d"), callid="d", cseq=cseq)), Rebinding)


def test_number_of_bindings_is_bounded_but_leaving_is_always_possible() -> None:
    known = (binding("sip:a@h"), binding("sip:b@h"))
    assert isinstance(rebind(known, change(binding("sip:c@h"), most=2)), Rejection)
    assert isinstance(rebind(known, change(binding("sip:c@h"), most=3)), Rebinding)
    assert isinstance(rebind(known, change(binding("sip:a@h", expires_s=0, cseq=2), most=0)), Rebinding)


def test_preference() -> None:
    low, old, new = binding("sip:a@h", q=500, ms=9), binding("sip:b@h", ms=1), binding("sip:c@h", ms=2)
    assert sorted((low, old, new), key=preferred) == [new, old, low]
