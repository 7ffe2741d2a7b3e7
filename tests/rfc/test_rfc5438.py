"""RFC 5438 (IMDN), for an intermediary that stores: who is told what, how, and how often.

Its examples and the sentences that bind us. What is asked and written in detail is in tests/core/test_imdn.py, who else
is told what, and how many, in tests/silo/test_imdn.py.
"""

import pytest

from msilo_core import Config, SiloConfig
from msilo_core.actions import Message
from msilo_core.cpim import parse_cpim
from tests.core.imdn import HEAD, TEXT, asking, cpim, document, kept, said, typed
from tests.core.world import ALICE, BOB, World, answer, body_of, finished, header, message, register, status_of

IMDN = "urn:ietf:params:imdn"


def told(world: World, data: bytes) -> list[tuple[str, str]]:
    """Return what is said when a message is stored, behind the 202."""
    accepted, *others = world.datagram(data)
    assert status_of(accepted) == 202
    return [said(other) for other in others]


def refuse(world: World, status: str = "403 Forbidden", cseq: int = 1) -> list[bytes]:
    """Let bob come back and refuse what waits; return what is sent then."""
    _, delivered = world.datagram(register(cseq=cseq), BOB)
    return world.datagram(answer(delivered, status), BOB)


def rows(world: World, owner: str = "sip:alice@example.com") -> list[Message]:
    return finished(world.store.list(owner=owner))


def sections_of(body: bytes) -> tuple[list[str], list[str], bytes]:
    """Return the message headers, the MIME headers and the content of a CPIM body."""
    head, content_head, content = body.split(b"\r\n\r\n", 2)
    return head.decode().split("\r\n"), content_head.decode().split("\r\n"), content


# -- 5, 7.1: what is asked ---------------------------------------------------------------------------------------------


def test_example_asks_for_delivery_notifications_and_gets_no_other() -> None:
    """7.1.1.3: "positive and negative delivery notifications, but not display notification or processing"."""
    world = World()
    assert told(world, asking("positive-delivery, negative-delivery")) == []
    assert refuse(world) == []
    assert kept(world) == [("id1", "failed")]


@pytest.mark.parametrize(
    ("values", "stored", "failed"),
    [
        ("processing", True, False),
        ("negative-delivery", False, True),
        ("positive-delivery", False, False),
        ("display", False, False),
        ("", False, False),
        ("display, processing;a=b ,negative-delivery, unheard-of", True, True),
        ("Processing, NEGATIVE-DELIVERY", False, False),
    ],
)
def test_each_value_asks_for_its_own(values: str, stored: bool, failed: bool) -> None:
    """7.1.1.3, and 10: "case sensitive and MUST be used as given"; of a value that is not understood: 7.2.1."""
    world = World()
    assert told(world, asking(values)) == [("id1", "stored")] * stored
    refuse(world)
    assert kept(world) == [("id1", "failed")] * failed


def test_message_without_the_header_asks_for_nothing() -> None:
    """7.1.1.3: "The absence of this header field ... indicates that the IM Sender is not requesting any IMDNs"."""
    world = World()
    head = "".join([line for line in HEAD.splitlines(keepends=True) if "Disposition" not in line])
    assert told(world, typed(cpim(head))) == told(world, message(number=2)) == []
    refuse(world)
    assert rows(world) == []


@pytest.mark.parametrize("prefix", ["imdn", "x", "a-b"])
def test_any_prefix_is_accepted(prefix: str) -> None:
    """6.1: "clients are free to use any prefix while servers and intermediaries must accept any legal"."""
    head = HEAD.replace("imdn.", f"{prefix}.").replace("NS: imdn", f"NS: {prefix}")
    assert told(World(), typed(cpim(head))) == [("34jk324j", "stored")]


# -- 7.2.1, 8.1, 8.2: what is told -------------------------------------------------------------------------------------


def test_processing_notification() -> None:
    """7.2.1.1 and the example of 8.1."""
    world = World()
    _, imdn = world.datagram(asking())
    lines, content_lines, content = sections_of(body_of(imdn))
    assert lines[:2] == ["From: Bob <im:bob@example.com>", "To: Alice <im:alice@example.com>"]
    assert content_lines == [
        # 11.1.8, and 7.2.1: "MUST insert a Content-Disposition header field set to the value "notification""
        "Content-Type: message/imdn+xml",
        "Content-Disposition: notification",
        f"Content-Length: {len(content)}",
    ]
    # 11: "MUST be based on XML 1.0 and MUST be encoded using UTF-8"; the elements in the order of the schema.
    assert content.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\r\n<imdn xmlns="urn:ietf:params:xml:ns:imdn">')
    assert list(document(body_of(imdn)).items()) == [
        ("imdn", ""),
        ("message-id", "id1"),
        ("datetime", "2006-04-04T12:16:49-05:00"),
        ("recipient-uri", "im:bob@example.com"),
        ("original-recipient-uri", "im:bob@example.com"),
        ("processing-notification", ""),
        ("status", ""),
        ("stored", ""),
    ]


def test_delivery_notification() -> None:
    """8.2: "A "negative-delivery" notification much like the IM Recipient"."""
    world = World()
    world.datagram(asking("negative-delivery"))
    refuse(world)
    (row,) = rows(world)
    assert row.ctype == "message/cpim"
    assert [*document(row.body)][-3:] == ["delivery-notification", "status", "failed"]
    assert sections_of(row.body)[1][:2] == ["Content-Type: message/imdn+xml", "Content-Disposition: notification"]


def test_notification_has_a_message_id_of_its_own() -> None:
    """7.2.1: it "MUST contain a Message-ID header field", "different and unrelated to the one in the IM"."""
    world = World()
    _, stored = world.datagram(asking())
    refuse(world)
    (failed,) = rows(world)
    (one,), (other,) = (parse_cpim(body).values("Message-ID", IMDN) for body in (body_of(stored), failed.body))
    assert len({one, other, "id1"}) == 3
    # 6.3: "at least 64 bits of randomness"
    assert all(len(bytes.fromhex(value)) >= 8 for value in (one, other))


def test_notification_asks_for_no_notification() -> None:
    """7.2.1: "A Disposition-Notification header field MUST NOT appear in an IMDN"."""
    world = World()
    _, stored = world.datagram(asking())
    refuse(world)
    assert b"Disposition-Notification" not in body_of(stored) + rows(world)[0].body


def test_original_recipient_is_told_by_original_to() -> None:
    """11.1.4: "It MUST be present if the IM carried the Original-To header field"."""
    _, stored = World().datagram(typed(cpim(f"{HEAD}imdn.Original-To: List <im:list@example.com>\n")))
    assert document(body_of(stored))["original-recipient-uri"] == "im:list@example.com"
    assert document(body_of(stored))["recipient-uri"] == "im:bob@example.com"


def test_recorded_route_goes_back_in_its_order() -> None:
    """7.2.1: "MUST copy the contents of the IMDN-Record-Route header fields into IMDN-Route ... maintain their order".

    Where it is sent is not for the message to say, which anybody may have written: "A malicious intermediary or node
    attempts to flood a target node with IMDNs by inserting the target's address in ... IMDN-Record-Route" (14).
    """
    route = ["One <sip:one@192.0.2.9>", "<sip:two@192.0.2.9>"]
    world = World()
    recorded = "".join([f"imdn.IMDN-Record-Route: {address}\n" for address in route])
    _, stored = world.datagram(typed(cpim(HEAD + recorded)))
    parsed = parse_cpim(body_of(stored))
    assert parsed.values("IMDN-Route", IMDN) == route
    assert parsed.values("IMDN-Record-Route", IMDN) == []
    assert stored.startswith(b"MESSAGE sip:alice@example.com SIP/2.0\r\n")
    assert world.sent[-1].flow.remote == ALICE


# -- 12: in SIP --------------------------------------------------------------------------------------------------------


def test_it_is_a_message_from_the_recipient_to_the_sender() -> None:
    """7.2.1: "MUST send the IMDN to the URI in the From header field"; 12.1.1: in "message/cpim"."""
    world = World()
    accepted, stored = world.datagram(asking())
    assert status_of(accepted) == 202
    assert stored.startswith(b"MESSAGE sip:alice@example.com SIP/2.0\r\n")
    assert header(stored, "To") == "<sip:alice@example.com>"
    assert header(stored, "From").startswith("<sip:bob@example.com>;tag=")
    assert header(stored, "Content-Type") == "message/cpim"
    assert header(stored, "Contact") == ""
    assert world.sent[-1].flow.remote == ALICE
    assert world.datagram(answer(stored)) == []
    assert world.engine.statistics.imdns == 1


@pytest.mark.parametrize("uri", ["sip:anonymous@anonymous.invalid", "sip:c8o@ANONYMOUS.invalid", "tel:+15551234567"])
def test_who_has_no_return_address_is_not_told(uri: str) -> None:
    """12.1.1: "anonymous IM Senders SHOULD NOT request disposition notifications"; such a request may be ignored."""
    world = World()
    assert told(world, asking().replace(b"sip:alice@example.com", uri.encode())) == []
    refuse(world)
    assert world.engine.statistics.lost_imdns == 2
    assert len(rows(world, "sip:bob@example.com")) == 0


def test_message_that_is_refused_live_is_told_of_by_sip() -> None:
    """12.2: only where "in processing the IM, the intermediary generates a SIP 2xx class response"."""
    world = World()
    world.datagram(register(), BOB)
    (relayed,) = world.datagram(asking())
    (passed_on,) = world.datagram(answer(relayed, "403 Forbidden"), BOB)
    assert status_of(passed_on) == 403
    assert rows(world) == []


def test_2xx_of_a_phone_is_told_by_nobody_but_the_phone() -> None:
    """12.2: "the intermediary MUST NOT generate a delivery notification if it receives a SIP 2xx class response"."""
    world = World()
    world.datagram(asking("positive-delivery, negative-delivery, display"))
    assert refuse(world, "200 OK") == []
    assert rows(world) == []


@pytest.mark.parametrize("status", ["415 Unsupported Media Type", "488 Not Acceptable", "603 Decline"])
def test_final_response_that_is_for_good_is_told(status: str) -> None:
    """12.2: "if it receives a SIP 4xx, 5xx, or 6xx class final response for the sent IM"."""
    world = World()
    world.datagram(asking("negative-delivery"))
    refuse(world, status)
    assert kept(world) == [("id1", "failed")]


def test_failure_that_may_pass_is_not_told() -> None:
    """We are not done with it: 7.2.1 and 8.2 have one delivery notification, not "failed" and then another."""
    world = World()
    world.datagram(asking("negative-delivery"))
    refuse(world, "486 Busy Here")
    assert rows(world) == []
    refuse(world, "200 OK", cseq=2)
    assert rows(world) == []


def test_message_that_expires_is_told_of() -> None:
    """8: "store-and-forward servers that may report that an IM has been processed and later ... failed"."""
    world = World()
    assert told(world, asking(headers="Expires: 60\r\n")) == [("id1", "stored")]
    world.datagram(answer(world.sent[-1].data))
    world.pass_time(700_000)
    assert kept(world) == [("id1", "failed")]


# -- How often ---------------------------------------------------------------------------------------------------------


def test_each_kind_is_told_once() -> None:
    """8.1, 8.2: "MUST NOT send more than one IMDN for the same disposition type"."""
    world = World()
    assert told(world, asking()) == [("id1", "stored")]
    # A repeat by another way is the same message.
    assert told(world, asking().replace(b"z9hG4bKa1", b"z9hG4bKother")) == []
    refuse(world)
    assert kept(world) == [("id1", "failed")]
    # What was set aside expires, and is deleted.
    world.pass_time(300_000_000)
    assert world.engine.statistics.expired_messages == 2
    assert world.engine.statistics.imdns == 2


@pytest.mark.parametrize("status", ["403 Forbidden", "603 Decline"])
def test_there_is_no_imdn_about_an_imdn(status: str) -> None:
    """7.2.1: "The IM Sender MUST NOT send an IMDN for an IMDN", whether it asks for that or not."""
    world = World()
    phones = "Content-Type: message/imdn+xml\nContent-Disposition: notification\n\n<imdn/>"
    assert told(world, typed(cpim(HEAD, phones))) == []
    refuse(world, status)
    assert world.dead()
    assert rows(world) == []


def test_our_own_is_refused_or_expires_in_silence() -> None:
    world = World()
    for number in (1, 2):
        world.datagram(asking("negative-delivery", number=number))
    _, first = world.datagram(register(), BOB)
    (second,) = world.datagram(answer(first, "403 Forbidden"), BOB)
    world.datagram(answer(second, "403 Forbidden"), BOB)
    assert kept(world) == [("id1", "failed"), ("id2", "failed")]
    (_, delivered) = world.datagram(register("alice", "<sip:alice@127.0.0.1:5071>", sender=ALICE), ALICE)
    assert said(delivered) == ("id1", "failed")
    world.datagram(answer(delivered, "403 Forbidden"), ALICE)
    world.pass_time(300_000_000)
    assert world.engine.statistics.imdns == 2
    assert world.engine.statistics.notifications == 0
    assert finished(world.store.list()) == finished(world.store.list(dead=True)) == []


# -- 8, 14: what goes through, and who is not told ---------------------------------------------------------------------


def test_imdn_of_a_phone_is_carried_as_it_is() -> None:
    """12.2: "it forwards it"; 8: an IMDN-Route that does not name us is for others."""
    head = "From: Bob <im:bob@example.com>\nNS: imdn <urn:ietf:params:imdn>\nimdn.Message-ID: d834\n"
    body = cpim(
        head + "imdn.IMDN-Route: <sip:list@example.com>\n",
        "Content-type: message/imdn+xml\nContent-Disposition: notification\n\n<imdn/>",
    )
    world = World()
    world.datagram(typed(body))
    assert rows(world, "sip:bob@example.com")[0].body == body
    _, delivered = world.datagram(register(), BOB)
    assert body_of(delivered) == body


@pytest.mark.parametrize("content_type", ["multipart/signed", "multipart/encrypted", "application/pkcs7-mime"])
def test_what_is_signed_or_encrypted_is_not_told_of_in_clear(content_type: str) -> None:
    """14.2: "The same level of security applied to an IM MUST be applied to its IMDNs"; we have no keys."""
    world = World()
    assert told(world, typed(cpim(HEAD, TEXT.replace("text/plain", content_type)))) == []
    refuse(world)
    assert rows(world) == []


def test_operator_may_disallow_them() -> None:
    """5.1: "if one configures it to do so ... the administrator has disallowed IMDNs"."""
    world = World(Config(silo=SiloConfig(imdn=0)))
    assert told(world, asking()) == []
    refuse(world)
    assert rows(world) == []
    assert world.engine.statistics.lost_imdns == 0
