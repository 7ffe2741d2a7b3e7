"""Messages as phones send them: a MESSAGE of 530 octets with 10 headers, a REGISTER of 809 octets with 13.

All of one kind have the same length and differ in what differs between messages: users, branches, tags, Call-IDs,
numbers. The same seed gives the same octets.
"""

import random
from typing import Final

__all__ = ["message", "messages", "register", "registers"]

_TEXT: Final = b"The quick brown fox jumps over the lazy dog, and nobody is there to see how it is do"
_BODY_BYTES: Final = 80
_DIGITS: Final = "0123456789"
_HEX: Final = "0123456789abcdef"


def messages(count: int, seed: int = 1) -> list[bytes]:
    """Return `count` MESSAGEs."""
    source = random.Random(seed)
    return [message(source) for _ in range(count)]


def registers(count: int, seed: int = 1) -> list[bytes]:
    """Return `count` REGISTERs with Digest credentials."""
    source = random.Random(seed)
    return [register(source) for _ in range(count)]


def message(source: random.Random) -> bytes:
    """Return a MESSAGE of 530 octets: 10 headers, a body of 80 octets."""
    sender, recipient, port = _digits(source, 6), _digits(source, 6), source.randint(10_000, 60_000)
    start = source.randrange(len(_TEXT) - _BODY_BYTES + 1)
    head = (
        f"MESSAGE sip:user{recipient}@example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.17:{port};branch=z9hG4bK{_hex(source, 16)};rport\r\n"
        "Max-Forwards: 70\r\n"
        f'From: "User {sender}" <sip:user{sender}@example.com>;tag={_hex(source, 10)}\r\n'
        f"To: <sip:user{recipient}@example.com>\r\n"
        f"Call-ID: {_hex(source, 30)}@192.0.2.17\r\n"
        f"CSeq: {source.randint(10_000, 99_999)} MESSAGE\r\n"
        "User-Agent: Desk Phone 5.2.6 (x86_64 Linux)\r\n"
        f"Date: Sun, 22 Nov 2026 23:{source.randrange(60):02}:{source.randrange(60):02} GMT\r\n"
        "Content-Type: text/plain;charset=utf-8\r\n"
        f"Content-Length: {_BODY_BYTES}\r\n\r\n"
    )
    return head.encode() + _TEXT[start : start + _BODY_BYTES]


def register(source: random.Random) -> bytes:
    """Return a REGISTER of 809 octets: 13 headers, Digest credentials among them, and no body."""
    user, port = _digits(source, 6), source.randint(10_000, 60_000)
    head = (
        "REGISTER sip:example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.17:{port};branch=z9hG4bK{_hex(source, 16)};rport\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:user{user}@example.com>;tag={_hex(source, 10)}\r\n"
        f"To: <sip:user{user}@example.com>\r\n"
        f"Call-ID: {_hex(source, 30)}@192.0.2.17\r\n"
        f"CSeq: {source.randint(10_000, 99_999)} REGISTER\r\n"
        f"Contact: <sip:user{user}@192.0.2.17:{port};transport=udp>"
        f';+sip.instance="<urn:uuid:{_hex(source, 8)}-{_hex(source, 4)}-4{_hex(source, 3)}-8{_hex(source, 3)}'
        f'-{_hex(source, 12)}>";reg-id=1\r\n'
        "Expires: 3600\r\n"
        "Allow: MESSAGE, OPTIONS, NOTIFY, CANCEL, ACK\r\n"
        "Supported: path, outbound, gruu\r\n"
        "User-Agent: Desk Phone 5.2.6 (x86_64 Linux)\r\n"
        f'Authorization: Digest username="user{user}", realm="example.com", nonce="{_hex(source, 32)}",'
        f' uri="sip:example.com", response="{_hex(source, 32)}", algorithm=MD5, cnonce="{_hex(source, 10)}",'
        f" qop=auth, nc=0000000{source.randint(1, 9)}\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    return head.encode()


def _digits(source: random.Random, count: int) -> str:
    return "".join(source.choices(_DIGITS, k=count))


def _hex(source: random.Random, count: int) -> str:
    return "".join(source.choices(_HEX, k=count))
