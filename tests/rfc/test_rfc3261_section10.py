"""RFC 3261 section 10.3: a registrar, step by step; what is pure is in tests/core/test_registrar.py."""

import pytest

from msilo_core import Aor, Config, Limits
from msilo_core.actions import Bind, LookedUp, LookUp, StorageFailed
from tests.core.world import BOB, World, finished, header, message, register, status_of

CONTACT = "<sip:bob@127.0.0.1:5072>"
OTHER = "<sip:bob@127.0.0.1:5073>"


def contacts(data: bytes) -> list[str]:
    """Return the values of the Contact lines of a 200."""
    assert status_of(data) == 200
    return [line[9:].decode() for line in data.split(b"\r\n") if line.startswith(b"Contact: ")]


def bindings(world: World, user: str = "bob") -> list[str]:
    """Return the contacts that are bound, as a REGISTER without Contact is told."""
    (ok,) = world.datagram(register(user, contact="", expires="", cseq=1_000_000 + len(world.sent)), BOB)
    return contacts(ok)


# -- Steps 1 to 5 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_uri", "status"),
    [
        ("sip:example.com", 200), ("sip:EXAMPLE.com.;transport=udp", 200), ("sip:bob@example.com", 200),
        ("sip:127.0.0.1", 200), ("sip:[::1]:5070", 200), ("sip:example.net", 404),
    ],
)  # fmt: skip
def test_registrar_of_another_domain(request_uri: str, status: int) -> None:
    """Step 1: "whether it has access to bindings for the domain identified in the Request-URI"."""
    world = World(Config(domains=frozenset({"example.com"})))
    request = register().replace(b"REGISTER sip:example.com", f"REGISTER {request_uri}".encode())
    assert status_of(world.datagram(request, BOB)[0]) == status


def test_register_for_another_domain_is_not_passed_on() -> None:
    # Step 1: "the server SHOULD forward the request to the addressed domain". What a phone registers is for us to know.
    world = World(Config(domains=frozenset({"example.com"}), foreign="sip:127.0.0.9:5070"))
    (refused,) = world.datagram(register().replace(b"example.com", b"example.org"), BOB)
    assert status_of(refused) == 404


@pytest.mark.parametrize("to", ["sip:bob@example.net", "sip:example.com", "sip:bob%00@example.com"])
def test_address_of_record_that_is_not_ours(to: str) -> None:
    """Step 5: "If the address-of-record is not valid for the domain ..., the registrar MUST send a 404"."""
    world = World(Config(domains=frozenset({"example.com"})))
    (refused,) = world.datagram(register().replace(b"To: <sip:bob@example.com>", f"To: <{to}>".encode()), BOB)
    assert status_of(refused) == 404


@pytest.mark.parametrize(
    "to", ["sip:bob@example.com;user=phone;x", "sips:b%6fb@EXAMPLE.COM", "sip:bob:pw@example.com.:5070"]
)
def test_canonical_form_of_the_address_of_record(to: str) -> None:
    """Step 5.

    "... all URI parameters MUST be removed (including the user-param), and any escaped characters MUST be converted to
    their unescaped form."
    """
    world = World()
    world.datagram(register().replace(b"To: <sip:bob@example.com>", f"To: <{to}>".encode()), BOB)
    assert bindings(world) == ["<sip:bob@127.0.0.1:5072>;expires=3600"]


# -- Step 6: * ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contact", "expires"),
    [
        ("*", "Expires: 1\r\n"), ("*", ""), (f"*, {CONTACT}", "Expires: 0\r\n"), (f"{CONTACT}\r\nContact: *", ""),
        ("*;expires=0", "Expires: 0\r\n"), ("<*>", "Expires: 0\r\n"), ("*, *", "Expires: 0\r\n"),
    ],
)  # fmt: skip
def test_star_stands_alone_and_with_expires_0(contact: str, expires: str) -> None:
    """Step 6: "If the request has additional Contact fields or an expiration time other than zero, ... 400"."""
    world = World()
    world.datagram(register(), BOB)
    (refused,) = world.datagram(register(contact=contact, expires=expires, cseq=2), BOB)
    assert status_of(refused) == 400
    assert len(bindings(world)) == 1


def test_star_removes_what_is_older_and_fails_as_a_whole_otherwise() -> None:
    world = World()
    world.datagram(register(contact=f"{CONTACT}, {OTHER}", cseq=5), BOB)
    for cseq in (5, 4):
        star = register(contact="*", expires="Expires: 0\r\n", cseq=cseq).replace(b"z9hG4bKr", b"z9hG4bKstar")
        assert status_of(world.datagram(star, BOB)[0]) == 500
    assert len(bindings(world)) == 2
    (ok,) = world.datagram(register(contact="*", expires="Expires: 0\r\n", cseq=6), BOB)
    assert contacts(ok) == []
    assert bindings(world) == []


# -- Step 7: how long, and in which order ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contact", "expires", "granted"),
    [
        (f"{CONTACT};expires=600", "Expires: 7200\r\n", 600),
        (CONTACT, "Expires: 7200\r\n", 7200),
        (CONTACT, "", 3600),
        (f"{CONTACT};expires=soon", "", 3600),
        (f"{CONTACT};expires=86401", "", 86_400),
        (CONTACT, "Expires: 4294967296\r\n", 86_400),
        (f"{CONTACT};expires=60", "Expires: 1\r\n", 60),
    ],
)
def test_expiration_interval(contact: str, expires: str, granted: int) -> None:
    (ok,) = World().datagram(register(contact=contact, expires=expires), BOB)
    assert contacts(ok) == [f"{CONTACT};expires={granted}"]


@pytest.mark.parametrize(
    ("minimum_s", "asked_s", "status"),
    [(60, 59, 423), (60, 60, 200), (60, 0, 200), (7200, 3599, 423), (7200, 3600, 200)],
)
def test_interval_too_brief(minimum_s: int, asked_s: int, status: int) -> None:
    """Step 7.

    "If and only if the requested expiration interval is greater than zero AND smaller than one hour AND less than a
    registrar-configured minimum, the registrar MAY reject the registration with a response of 423 (Interval Too Brief).
    This response MUST contain a Min-Expires header field".
    """
    world = World(Config(expires_min_s=minimum_s, expires_default_s=7200))
    (answered,) = world.datagram(register(contact=f"{CONTACT};expires={asked_s}"), BOB)
    assert status_of(answered) == status
    assert header(answered, "Min-Expires") == (str(minimum_s) if status == 423 else "")


def test_one_brief_interval_fails_all() -> None:
    world = World()
    (refused,) = world.datagram(register(contact=f"{CONTACT}, {OTHER};expires=1"), BOB)
    assert status_of(refused) == 423
    assert bindings(world) == []


def test_several_contacts_with_all_that_they_say() -> None:
    world = World()
    one = '"Bob, Jr." <sip:bob@127.0.0.1:5072;transport=udp>;q=0.7;+sip.instance="<urn:uuid:1>";reg-id=2;x="a,b;c"'
    other = '<sip:bob@127.0.0.1:5073>;methods="MESSAGE,INVITE";q=1.0;expires=120'
    (ok,) = world.datagram(register(contact=f"{one},\r\n {other}\r\nm: <sips:bob@127.0.0.1:5074>"), BOB)
    # Of equal q the one that sorts first; a display name says nothing about a binding.
    assert contacts(ok) == [
        '<sip:bob@127.0.0.1:5073>;methods="MESSAGE,INVITE";q=1.0;expires=120',
        "<sips:bob@127.0.0.1:5074>;expires=3600",
        '<sip:bob@127.0.0.1:5072;transport=udp>;q=0.7;+sip.instance="<urn:uuid:1>";reg-id=2;x="a,b;c";expires=3600',
    ]
    looked_up = LookUp(1, Aor("bob", "example.com"), world.now.unix_s)
    (found,) = finished(world.store.look_up([looked_up]))
    assert isinstance(found, LookedUp)
    last = found.bindings[-1]
    assert (last.instance, last.reg_id, last.q) == ("<urn:uuid:1>", 2, 700)


def test_same_contact_is_found_by_uri_comparison() -> None:
    """Step 7: "searches the list of current bindings using the URI comparison rules"."""
    world = World()
    world.datagram(register(contact="<sip:b%6fb@Phone.Example.com;Transport=udp;x=1>"), BOB)
    (ok,) = world.datagram(register(contact="<sip:bob@phone.example.COM;x=1;transport=UDP>", cseq=2), BOB)
    assert contacts(ok) == ["<sip:bob@phone.example.COM;x=1;transport=UDP>;expires=3600"]


@pytest.mark.parametrize(("cseq", "status"), [(4, 500), (5, 500), (6, 200)])
def test_requests_of_one_phone_out_of_order(cseq: int, status: int) -> None:
    """Step 7: "If not, the update MUST be aborted and the request fails"."""
    world = World()
    world.datagram(register(cseq=5), BOB)
    world.pass_time(60_000)
    again = register(contact=f"{CONTACT};expires=60, {OTHER}", cseq=cseq).replace(b"z9hG4bKr", b"z9hG4bKlate")
    assert status_of(world.datagram(again, BOB)[0]) == status
    assert len(bindings(world)) == (2 if status == 200 else 1)


def test_another_call_id_is_another_phone_and_may_change_what_it_finds() -> None:
    world = World()
    world.datagram(register(cseq=5), BOB)
    other = register(contact=f"{CONTACT};expires=0", cseq=1).replace(b"Call-ID: reg", b"Call-ID: other")
    (ok,) = world.datagram(other, BOB)
    assert contacts(ok) == []


def test_failed_commit_binds_nothing() -> None:
    """Step 7: "the request MUST fail with a 500 (Server Error)"; 503, since it may be asked for again."""
    world = World()
    world.hold = {Bind}
    world.datagram(register(), BOB)
    (refused,) = world.carry_out(world.engine.complete(StorageFailed(world.held.popleft().token, "x"), world.now))
    assert status_of(refused) == 503
    assert 10 <= int(header(refused, "Retry-After") or "") <= 20
    world.hold.clear()
    assert bindings(world) == []


@pytest.mark.parametrize("count", [2, 3, 400])
def test_number_of_bindings_is_bounded(count: int) -> None:
    world = World(limits=Limits(bindings_per_aor_max=2))
    many = ",".join(f"<sip:{number}@h>" for number in range(count))
    (answered,) = world.datagram(register(contact=many), BOB)
    assert status_of(answered) == (200 if count == 2 else 403)
    assert len(bindings(world)) == (2 if count == 2 else 0)


@pytest.mark.parametrize(("octets", "status"), [(199, 200), (200, 200), (201, 403)])
def test_octets_of_bindings_are_bounded(octets: int, status: int) -> None:
    world = World(limits=Limits(bindings_bytes_max=200))
    # What ran out does not count.
    world.datagram(register(contact=f"<sip:{'x' * 100}@h>;expires=60"), BOB)
    world.pass_time(60_000)
    # Each counts as it may come to stand in the answer, é as the two octets that it has there.
    lines = 'Contact: <sip:@h>;x="é";expires=4294967295\r\nContact: <sip:y@h>;expires=4294967295\r\n'
    contact = f'<sip:{"x" * (octets - len(lines.encode()))}@h>;x="é",<sip:y@h>'
    (answered,) = world.datagram(register(contact=contact, cseq=2), BOB)
    assert status_of(answered) == status
    assert len(bindings(world)) == (2 if status == 200 else 0)


def test_answer_fits_one_datagram() -> None:
    world = World()
    longest = 0
    for number in range(20):
        contact = f"<sip:{number}@{'h' * 200}.example>;x={'x' * 6000}"
        request = register(contact=contact, cseq=number + 1)
        # As long as a head may be, of headers that the 200 has as well.
        more = b"".join(b"Via: SIP/2.0/UDP h;branch=z9hG4bK%d;x=%s\r\n" % (n, b"x" * 7000) for n in range(3))
        request = request.replace(b"Max-Forwards", more + b"Max-Forwards")
        (answered,) = world.datagram(request, BOB)
        assert status_of(answered) == (200 if number < 3 else 403)
        longest = max(longest, len(answered))
    assert 40_000 < longest <= 65_507
    # Whoever was refused may go on with what there is.
    (answered,) = world.datagram(register(contact="", cseq=30), BOB)
    assert len(contacts(answered)) == 3


# -- Step 8 ------------------------------------------------------------------------------------------------------------


def test_answer_lists_every_binding_with_what_is_left_of_it() -> None:
    """Step 8.

    "The response MUST contain Contact header field values enumerating all current bindings. Each Contact value MUST
    feature an "expires" parameter indicating its expiration interval chosen by the registrar. The response SHOULD
    include a Date header field."
    """
    world = World()
    world.datagram(register(contact=f"{CONTACT};expires=100"), BOB)
    world.pass_time(40_000)
    (ok,) = world.datagram(register(contact=OTHER, cseq=2), BOB)
    assert contacts(ok) == [f"{OTHER};expires=3600", f"{CONTACT};expires=60"]
    assert header(ok, "Date") == "Mon, 21 Sep 2026 14:14:00 GMT"
    world.pass_time(60_000)
    assert bindings(world) == [f"{OTHER};expires=3540"]


def test_binding_that_runs_out_while_the_store_is_asked_is_not_listed() -> None:
    world = World()
    world.datagram(register(contact=f"{CONTACT};expires=60"), BOB)
    world.pass_time(55_000)
    world.hold = {Bind}
    world.datagram(register(contact=OTHER, cseq=2), BOB)
    bound = world.perform(world.held.pop())
    world.pass_time(5_000)
    (ok,) = world.carry_out(world.engine.complete(bound, world.now))
    assert contacts(ok) == [f"{OTHER};expires=3595"]


def test_record_route_of_a_register_is_ignored() -> None:
    (ok,) = World().datagram(register(headers="Record-Route: <sip:p.example.com;lr>\r\n"), BOB)
    assert b"Record-Route" not in ok


def test_binding_outlives_the_engine() -> None:
    world = World()
    world.datagram(register(), BOB)
    after = World()
    after.store = world.store
    (relayed,) = after.datagram(message())
    assert relayed.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 ")
