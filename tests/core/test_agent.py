"""The user agent: what it sends, what it makes of answers, what it takes."""

import random

import pytest

from msilo_core import Answered, Arrived, LocalError, Moment, ParseError, Stored, UserAgent
from msilo_core.actions import Action, Send
from tests.core.world import ALICE, EPOCH_MS, answer, body_of, header, message, register, status_of, tcp, udp

SERVER_FLOW = udp(ALICE)


class Phone:
    """An agent and a clock."""

    def __init__(self) -> None:
        self.mono_ms = 0
        self.agent = UserAgent(entropy=random.Random(1), now=self.now)

    @property
    def now(self) -> Moment:
        return Moment(self.mono_ms, EPOCH_MS + self.mono_ms)

    def receive(self, data: bytes) -> list[Action]:
        return self.agent.receive_datagram(data, SERVER_FLOW, self.now)

    def register(self, expires_s: int = 100) -> bytes:
        _, actions = self.agent.register(
            SERVER_FLOW,
            aor_uri="sip:bob@example.com",
            contact_uri="sip:bob@127.0.0.1:5060",
            expires_s=expires_s,
            now=self.now,
        )
        return octets(actions)[0]

    def until(self, mono_ms: int) -> list[Action]:
        actions: list[Action] = []
        while (at_ms := self.agent.next_timeout()) is not None and at_ms <= mono_ms:
            self.mono_ms = at_ms
            actions += self.agent.handle_timeout(self.now)
        self.mono_ms = mono_ms
        return actions


def octets(actions: list[Action]) -> list[bytes]:
    return [action.data for action in actions if isinstance(action, Send)]


def test_message_is_sent_and_its_answer_told() -> None:
    phone = Phone()
    number, actions = phone.agent.message(
        SERVER_FLOW,
        from_uri="sip:a@x",
        to_uri="sip:b@y",
        body=b"\x00hi",
        content_type="a/b",
        expires_s=60,
        now=phone.now,
    )
    (request,) = octets(actions)
    assert request.startswith(b"MESSAGE sip:b@y SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK")
    assert (header(request, "Content-Type"), header(request, "Expires")) == ("a/b", "60")
    assert header(request, "From").startswith("<sip:a@x>;tag=")
    assert body_of(request) == b"\x00hi"
    assert not phone.agent.is_idle
    assert phone.receive(answer(request, "100 Trying")) == []
    assert phone.receive(answer(request, "202 Accepted")) == [Answered(number, "MESSAGE", 202, "Accepted", True)]
    assert phone.agent.is_idle


def test_no_answer_is_408() -> None:
    phone = Phone()
    number, _ = phone.agent.message(SERVER_FLOW, from_uri="sip:a@x", to_uri="sip:b@y", body=b"", now=phone.now)
    told = [action for action in phone.until(32_000) if not isinstance(action, Send)]
    assert told == [Answered(number, "MESSAGE", 408, "", False)]


@pytest.mark.parametrize("uri", ["sip:", "b@y", "sip:b@y\r\nX: y"])
def test_what_is_no_uri_is_refused(uri: str) -> None:
    phone = Phone()
    with pytest.raises(ParseError):
        phone.agent.message(SERVER_FLOW, from_uri="sip:a@x", to_uri=uri, body=b"", now=phone.now)


def test_no_header_can_be_smuggled_in() -> None:
    phone = Phone()
    with pytest.raises(LocalError):
        phone.agent.message(
            SERVER_FLOW, from_uri="sip:a@x", to_uri="sip:b@y", body=b"", content_type="a/b\r\nX: y", now=phone.now
        )


def test_registration_is_refreshed_when_a_quarter_of_what_was_granted_is_left() -> None:
    phone = Phone()
    request = phone.register(expires_s=100)
    assert request.startswith(b"REGISTER sip:example.com SIP/2.0\r\n")
    assert header(request, "Contact") == "<sip:bob@127.0.0.1:5060>;expires=100"
    granted = answer(request).replace(
        b"Content-Length", b"Contact: <sip:bob@127.0.0.1:5060>;expires=80\r\nContent-Length"
    )
    (told,) = phone.receive(granted)
    assert isinstance(told, Answered)
    assert told.status == 200
    assert phone.until(59_999) == []
    (again,) = octets(phone.until(60_000))
    assert header(again, "Call-ID") == header(request, "Call-ID")
    assert header(again, "CSeq") == "2 REGISTER"


@pytest.mark.parametrize("contacts", ["*", "<sip:x", "<sip:other@h>;expires=5", "<sip:bob@127.0.0.1:5060>"])
def test_registrar_that_does_not_say_what_it_granted_granted_what_was_asked(contacts: str) -> None:
    phone = Phone()
    request = phone.register(expires_s=100)
    phone.receive(answer(request).replace(b"Content-Length", f"Contact: {contacts}\r\nContent-Length".encode()))
    assert octets(phone.until(74_999)) == []
    assert len(octets(phone.until(75_000))) == 1


def test_registrar_that_wants_a_longer_registration_gets_it() -> None:
    phone = Phone()
    request = phone.register(expires_s=100)
    brief = answer(request, "423 Interval Too Brief").replace(b"Content-Length", b"Min-Expires: 600\r\nContent-Length")
    (again,) = octets(phone.receive(brief))
    assert header(again, "Contact") == "<sip:bob@127.0.0.1:5060>;expires=600"
    assert header(again, "CSeq") == "2 REGISTER"
    phone.receive(answer(again))
    # And so from then on.
    (refreshed,) = octets(phone.until(450_000))
    assert header(refreshed, "Contact") == "<sip:bob@127.0.0.1:5060>;expires=600"


@pytest.mark.parametrize("minimum", ["", "Min-Expires: 100\r\n", "Min-Expires: soon\r\n"])
def test_registrar_that_does_not_say_what_it_wants(minimum: str) -> None:
    phone = Phone()
    request = phone.register(expires_s=100)
    brief = answer(request, "423 Interval Too Brief").replace(b"Content-Length", f"{minimum}Content-Length".encode())
    (told,) = phone.receive(brief)
    assert isinstance(told, Answered)
    assert told.status == 423


def test_registration_that_fails_is_tried_again() -> None:
    phone = Phone()
    request = phone.register()
    phone.receive(answer(request, "503 Busy"))
    assert octets(phone.until(29_999)) == []
    assert header(octets(phone.until(30_000))[0], "CSeq") == "2 REGISTER"


def test_end_leaves_the_registrar() -> None:
    phone = Phone()
    request = phone.register()
    phone.receive(answer(request))
    (leave,) = octets(phone.agent.close(phone.now))
    assert header(leave, "Contact") == "<sip:bob@127.0.0.1:5060>;expires=0"
    assert not phone.agent.is_idle
    phone.receive(answer(leave))
    phone.until(10_000)
    assert phone.agent.next_timeout() is None
    assert phone.agent.unregister("sip:bob@example.com", phone.now) == []


def test_message_that_comes_at_the_end_is_left_to_its_sender() -> None:
    phone = Phone()
    phone.agent.close(phone.now)
    (refused,) = octets(phone.receive(message()))
    assert status_of(refused) == 480


def test_message_that_arrives_is_answered_and_shown_once() -> None:
    phone = Phone()
    reply, arrived = phone.receive(message(b"hi"))
    assert isinstance(reply, Send)
    assert status_of(reply.data) == 200
    assert isinstance(arrived, Arrived)
    assert arrived.request.body == b"hi"
    assert phone.receive(message(b"hi")) == [reply]
    again = message(b"hi").replace(b"z9hG4bKa1", b"z9hG4bKother")
    (reply,) = phone.receive(again)
    assert status_of(octets([reply])[0]) == 200


def test_other_requests() -> None:
    phone = Phone()
    (refused,) = octets(phone.receive(register()))
    assert status_of(refused) == 405
    assert header(refused, "Allow") == "MESSAGE, OPTIONS"
    cancel = message(number=8).replace(b"MESSAGE sip", b"CANCEL sip").replace(b"7 MESSAGE", b"7 CANCEL")
    assert status_of(octets(phone.receive(cancel))[0]) == 481
    options = message(number=9).replace(b"MESSAGE sip", b"OPTIONS sip").replace(b"7 MESSAGE", b"7 OPTIONS")
    (ok,) = octets(phone.receive(options))
    assert (status_of(ok), header(ok, "Allow"), header(ok, "Accept")) == (200, "MESSAGE, OPTIONS", "*/*")
    required = message(number=10, headers="Require: teleport\r\n")
    (refused,) = octets(phone.receive(required))
    assert (status_of(refused), header(refused, "Unsupported")) == (420, "teleport")


def test_memory_of_what_was_shown_is_bounded() -> None:
    phone = Phone()
    for number in range(1_100):
        phone.receive(message(number=number))
    first = message(number=0).replace(b"z9hG4bKa0", b"z9hG4bKagain")
    assert len(phone.receive(first)) == 2


def test_agent_awaits_no_completion() -> None:
    phone = Phone()
    with pytest.raises(LocalError):
        phone.agent.complete(Stored(1, 1), phone.now)


def test_contact_on_a_stream() -> None:
    phone = Phone()
    _, actions = phone.agent.register(
        tcp(ALICE, 0), aor_uri="sip:bob@example.com", contact_uri="sip:bob@127.0.0.1;transport=tcp", now=phone.now
    )
    assert header(octets(actions)[0], "Via").startswith("SIP/2.0/TCP ")
    (failed,) = phone.agent.flow_closed(tcp(ALICE, 7), "reset", phone.now)
    assert isinstance(failed, Answered)
    assert failed.status == 503
