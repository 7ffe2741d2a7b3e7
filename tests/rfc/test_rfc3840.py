"""RFC 3840 and RFC 3841: what a phone says that it can do, and which phones a sender wants."""

import pytest

from tests.core.world import BOB, World, header, message, register, status_of

CAROL = ("127.0.0.1", 5073)
CONTACT = "<sip:bob@127.0.0.1:5072>"


@pytest.mark.parametrize(
    ("params", "allow", "is_reached"),
    [
        (';methods="INVITE,MESSAGE"', "", True),
        (';methods="invite, message"', "", True),
        (';methods="INVITE,BYE"', "", False),
        (';methods="INVITE"', "Allow: MESSAGE\r\n", False),
        (';methods="MESSAGE"', "Allow: INVITE\r\n", True),
        ("", "Allow: INVITE\r\nAllow: ACK, MESSAGE\r\n", True),
        ("", "Allow: INVITE, ACK\r\n", False),
        ("", "", True),
    ],
)
def test_contact_that_does_not_take_message_is_passed_over(params: str, allow: str, is_reached: bool) -> None:
    # The Contact's own word counts before the Allow of its REGISTER, and silence means everything.
    world = World()
    world.datagram(register(contact=CONTACT + params, headers=allow), BOB)
    (sent,) = world.datagram(message())
    assert status_of(sent) == (0 if is_reached else 202)


def test_features_are_kept_and_listed() -> None:
    world = World()
    contact = f'{CONTACT};audio;+sip.instance="<urn:uuid:1>";mobility="fixed";language="en,de"'
    (ok,) = world.datagram(register(contact=contact), BOB)
    assert header(ok, "Contact") == f"{contact};expires=3600"


def test_preferences_of_a_sender_are_for_the_phones() -> None:
    # Proxies "SHOULD" choose by them (RFC 3841 section 7.2). Here every phone gets the message, and may choose itself.
    world = World()
    world.datagram(register(contact=f"{CONTACT};audio"), BOB)
    world.datagram(register(contact='<sip:bob@127.0.0.1:5073>;automata;methods="MESSAGE"', cseq=2), CAROL)
    wanted = (
        "Accept-Contact: *;audio;require;explicit\r\nReject-Contact: *;automata\r\nRequest-Disposition: no-fork\r\n"
    )
    sent = world.datagram(message(headers=wanted))
    assert len(sent) == 2
    assert all(wanted.encode() in data for data in sent)
