"""Where a binding is reached."""

import msgspec
import pytest

from msilo_core import Binding, Flow
from msilo_core.fields import parse_hops
from msilo_core.targets import Target, capable, device_of, devices_of, routed, target_of
from tests.core.world import World

HERE, PHONE = ("192.0.2.9", 5060), ("192.0.2.1", 40_000)
UDP, TCP = Flow("udp", HERE, PHONE), Flow("tcp", HERE, PHONE, 3)


def binding(contact: str, flow: Flow = UDP, path: str = "", methods: str = "") -> Binding:
    return Binding(contact=contact, expires_s=2**40, callid="c", cseq=1, flow=flow, path=path, q=300, methods=methods)


def flow_of(bound: Binding, *, is_open: bool = False) -> Flow | None:
    target = target_of(bound, lambda _: is_open)
    return None if target is None else target.flow


@pytest.mark.parametrize(
    ("contact", "flow", "is_open", "expected"),
    [
        # The address of the Contact where it is the one that the REGISTER came from, by the transport that it names.
        ("sip:bob@192.0.2.1:5070", UDP, False, Flow("udp", HERE, ("192.0.2.1", 5070))),
        ("sip:bob@192.0.2.1", UDP, False, Flow("udp", HERE, ("192.0.2.1", 5060))),
        ("sip:bob@192.0.2.1;transport=tcp", UDP, False, Flow("tcp", HERE, ("192.0.2.1", 5060))),
        ("sip:bob@192.0.2.1;transport=UDP", TCP, False, Flow("udp", HERE, ("192.0.2.1", 5060))),
        ("sip:bob@192.0.2.1:5070", TCP, False, Flow("tcp", HERE, ("192.0.2.1", 5070))),
        # The stream itself as long as it is there.
        ("sip:bob@192.0.2.1:5070", TCP, True, TCP),
        ("sips:bob@phone.example.com", TCP, True, TCP),
        # Another address, a name, a transport that we do not have: where the REGISTER came from, but for a stream.
        ("sip:bob@203.0.113.1", UDP, False, UDP),
        ("sip:bob@phone.example.com", UDP, False, UDP),
        ("sip:bob@192.0.2.1;transport=sctp", UDP, False, UDP),
        ("sip:bob@203.0.113.1", TCP, False, None),
        ("sip:bob@192.0.2.1;transport=tls", TCP, False, None),
        # What asks for TLS is not sent in clear text.
        ("sips:bob@192.0.2.1", UDP, False, None),
        ("sips:bob@192.0.2.1", TCP, False, None),
    ],
)
def test_next_hop(contact: str, flow: Flow, is_open: bool, expected: Flow | None) -> None:
    assert flow_of(binding(contact, flow), is_open=is_open) == expected


def test_ipv6() -> None:
    flow = Flow("udp", ("2001:db8::9", 5060), ("2001:db8::1", 5060))
    assert flow_of(binding("sip:bob@[2001:DB8::1]:5070", flow)) == Flow("udp", flow.local, ("2001:db8::1", 5070))


def test_path_leads_and_the_contact_is_what_is_asked_for() -> None:
    path = "<sip:192.0.2.1:5080;lr;ob>, <sip:p.example.com;lr>"
    bound = binding("sip:bob@10.0.0.7;x?Subject=y", path=path)
    expected = Target(bound.contact, "sip:bob@10.0.0.7;x", Flow("udp", HERE, ("192.0.2.1", 5080)), path, 300)
    assert target_of(bound, lambda _: False) == expected


@pytest.mark.parametrize(("contact", "path"), [("no URI", ""), ("tel:+1", ""), ("sip:bob@h", "sip:no-brackets")])
def test_row_that_another_release_wrote(contact: str, path: str) -> None:
    assert target_of(binding(contact, path=path), lambda _: False) is None


def test_no_route() -> None:
    assert routed("sip:bob@h", parse_hops([])) == ("sip:bob@h", "")


@pytest.mark.parametrize(
    ("methods", "takes"),
    [("", True), ("MESSAGE", True), ("INVITE, message", True), ("INVITE,MESSAGES", False), ("INVITE BYE", False)],
)
def test_who_takes_message(methods: str, takes: bool) -> None:
    now = World().now
    assert bool(capable([binding("sip:bob@h", methods=methods)], now)) is takes
    assert bool(devices_of([binding("sip:bob@h", methods=methods)])) is takes


def test_device_is_known_by_its_instance_or_by_its_contact() -> None:
    first = binding("sip:bob@h")
    named = msgspec.structs.replace(first, instance="<urn:uuid:1>")
    assert device_of(first) == "82695098d42bc5aa"
    assert device_of(named) == device_of(msgspec.structs.replace(named, contact="sip:bob@elsewhere"))
    assert devices_of([first, named, first]) == (device_of(first), device_of(named))
    assert device_of(msgspec.structs.replace(first, instance="\udcff"))
