"""RFC 3325: who is believed when somebody says who the sender is, and who is told."""

import pytest

from msilo_core import Aor, Bind, Binding, Call, Config, Flow, ServerRoute, SiloConfig
from msilo_core.identity import hidden_headers, without_hidden
from msilo_core.rows import serialise_row
from msilo_core.targets import Target
from tests.core.wire import request
from tests.core.world import BOB, World, answer, finished, header, message, register, status_of, udp

ASSERTED = 'P-Asserted-Identity: "Alice" <sip:alice@example.com>\r\nP-Asserted-Identity: tel:+12015550123\r\n'


def asserted(data: bytes) -> str:
    """Return the lines of P-Asserted-Identity."""
    lines = [line for line in data.decode().split("\r\n") if line.lower().startswith("p-asserted-identity")]
    return "".join(f"{line}\r\n" for line in lines)


def test_trusted_peer_is_believed_live_and_stored() -> None:
    world = World()
    world.datagram(message(headers=ASSERTED))
    (_, delivered) = world.datagram(register(), BOB)
    assert asserted(delivered) == ASSERTED
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(message(headers=ASSERTED))
    assert asserted(relayed) == ASSERTED


@pytest.mark.parametrize("privacy", ["id", "ID", "user;id", "header ; id ;critical"])
def test_privacy_is_kept_from_whoever_is_not_trusted(privacy: str) -> None:
    """Section 7.

    "If this token is present, proxies MUST remove all the P-Asserted-Identity header fields before forwarding messages
    to elements that are not trusted."
    """
    headers = f"{ASSERTED}Privacy: {privacy}\r\n"
    incoming = request(message(headers=headers))
    assert hidden_headers(incoming, is_believed=True, is_trusted_target=False) == ("p-asserted-identity",)
    assert hidden_headers(incoming, is_believed=True, is_trusted_target=True) == ()
    assert without_hidden(headers) == f"Privacy: {privacy}\r\n"


@pytest.mark.parametrize("privacy", ["", "Privacy: none\r\n", "Privacy: header\r\n", "Privacy: idle\r\n"])
def test_without_a_wish_for_privacy_everybody_is_told(privacy: str) -> None:
    """Section 7.

    "If the Privacy header field value is set to "none" then the proxy MUST NOT remove the P-Asserted-Identity header
    fields." "It is RECOMMENDED that the P-Asserted-Identity header fields SHOULD NOT be removed" without one.
    """
    headers = ASSERTED + privacy
    incoming = request(message(headers=headers))
    assert hidden_headers(incoming, is_believed=True, is_trusted_target=False) == ()
    assert without_hidden(headers) == headers


def test_nobody_else_is_believed() -> None:
    """Sections 5 and 6.

    "If the proxy received the message from an element that it does not trust and there is a P-Asserted-Identity header
    present which contains a SIP or SIPS URI, the proxy MUST replace that SIP or SIPS URI with a single SIP or SIPS URI
    or remove this header field." And the same for a tel URI. "The proxy MUST remove the user-provided
    P-Preferred-Identity header from any message it forwards."
    """
    incoming = request(message(headers=ASSERTED))
    for is_trusted_target in (True, False):
        hidden = hidden_headers(incoming, is_believed=False, is_trusted_target=is_trusted_target)
        assert hidden == ("p-asserted-identity", "p-preferred-identity")


@pytest.mark.parametrize("privacy", ["header", "session;critical", "user;header;critical"])
def test_privacy_beyond_id_is_for_others(privacy: str) -> None:
    # RFC 3323 section 5 is of privacy services, which hide more, and refuse what is critical and beyond them. To reach
    # one a sender requires it of proxies (section 4.3), and then we refuse.
    world = World()
    world.datagram(message(headers=f"Privacy: {privacy}\r\n"))
    (_, delivered) = world.datagram(register(), BOB)
    assert header(delivered, "Privacy") == privacy
    assert header(delivered, "From") == '"Alice" <sip:alice@example.com>;tag=f1'
    required = message(number=2, headers=f"Privacy: {privacy}\r\nProxy-Require: privacy\r\n")
    assert status_of(world.datagram(required)[0]) == 420


def test_what_is_kept_is_taken_out_line_by_line() -> None:
    headers = (
        "Subject: P-Asserted-Identity: x\r\n"
        "p-asserted-identity :\r\n <sip:a@b>\r\n"
        "X: folded\r\n\tmore\r\n"
        "P-Asserted-Identity-Too: y\r\n"
        "privacy:\r\n id\r\n"
    )
    assert without_hidden(headers) == headers.replace("p-asserted-identity :\r\n <sip:a@b>\r\n", "")
    assert without_hidden("") == ""


def test_message_that_is_stored_for_a_phone_that_is_not_trusted() -> None:
    # A trusted proxy registers the phone; it is reached at an address of its own.
    phone = ("198.51.100.7", 5072)
    world = World(Config(trusted=("127.0.0.1/32",)))
    world.datagram(message(headers=f"{ASSERTED}Privacy: id\r\n"))
    (_, delivered) = world.datagram(register(), BOB)
    assert asserted(delivered) == ASSERTED
    (row,) = finished(world.store.list())
    assert asserted(row.extra_hdrs.encode()) == ASSERTED
    target = Target("sip:bob@phone", "sip:bob@phone", udp(phone))
    for trusted, shown in (({target.flow}, ASSERTED), (set[Flow](), "")):
        data = serialise_row(row, SiloConfig(), trusted.__contains__, target, "SIP/2.0/UDP h;branch=b")
        assert asserted(data) == shown
        assert header(data, "Privacy") == "id"


@pytest.mark.parametrize(("trusted", "shown"), [(True, "P-Asserted-Identity: <sip:bob@example.com>\r\n"), (False, "")])
def test_what_a_phone_asserts_in_its_answer(trusted: bool, shown: str) -> None:
    """Section 5: "receives a message (request or response) from a node"."""
    world = World(Config(trusted=("127.0.0.0/8",) if trusted else ("127.0.0.1/32",)))
    phone = ("127.0.0.2", 5072)
    contact = "<sip:bob@127.0.0.2:5072>"
    if trusted:
        world.datagram(register(contact=contact, sender=phone), phone)
    else:
        owner, flow = Aor("bob", "example.com"), udp(phone)
        binding = Binding(contact="sip:bob@127.0.0.2:5072", expires_s=2**31, callid="c", cseq=1, flow=flow)
        finished(world.store.bind([Bind(1, owner, world.now.unix_s, "c", 1, (binding,))]))
    (relayed,) = world.datagram(message())
    ok = answer(relayed).replace(b"Content-Length", b"P-Asserted-Identity: <sip:bob@example.com>\r\nContent-Length")
    (passed,) = world.datagram(ok, phone)
    assert (status_of(passed), asserted(passed)) == (200, shown)


class Told(ServerRoute):
    """Notes who a route is told that the sender is."""

    def __init__(self) -> None:
        self.identities: list[Aor | None] = []

    def request_route(self, call: Call) -> None:
        self.identities.append(call.identity)
        super().request_route(call)


@pytest.mark.parametrize(
    ("headers", "identity"),
    [
        (ASSERTED, Aor("alice", "example.com")),
        ("", None),
        ("P-Asserted-Identity: tel:+12015550123\r\n", None),
        ("P-Asserted-Identity: <sip:example.com>\r\n", None),
        ("P-Asserted-Identity: no address\r\n", None),
    ],
)
def test_route_is_told_whom_a_trusted_peer_asserts(headers: str, identity: Aor | None) -> None:
    """Section 5.

    "... it can use the information in the P-Asserted-Identity header field, if any, as if it had authenticated the user
    itself."
    """
    route = Told()
    world = World(route=route)
    world.datagram(message(headers=headers))
    assert route.identities == [identity]
