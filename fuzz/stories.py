"""How a story for the engine is altered: whole records, and octets in them only half of the time.

What libFuzzer does to octets mostly makes another malformed message. It is the order of sound ones, of what the store
answers and of time that shows what the engine is made of.
"""

import random
from collections.abc import Callable
from typing import Final

__all__ = ["SEPARATOR", "alter"]

SEPARATOR: Final = b"\x1e"

_WORDS: Final = (
    *(b"digest", b"domains", b"proxy", b"lazy", b"dated", b"silo", b"small", b"prompt"),
    *(b"notify", b"remind", b"outbound", b"quota", b"fair", b"typed", b"scripted"),
)

_CPIM: Final = (
    b"NS: i <urn:ietf:params:imdn>\ni.Message-ID: x\ni.Disposition-Notification: processing, negative-delivery\n\n"
    b"Content-Type: text/plain\n\nx"
)

_RECORDS: Final = (
    *(b"M%s%s" % (who, what) for who in (b"001", b"101", b"301", b"012") for what in (b"", b"Expires: 5\n\nx")),
    b"M001Contact: <sip:alice@127.0.0.1:5071>\nSubject: x\n\nx",
    b"M001Content-Type: image/png\n\nx",
    # A story begins at 14:13:20.
    *(b"M001X-Deliver-At: 202609211413%d\n\nx" % second for second in (25, 35, 59)),
    b"M102X-Deliver-At: 20260921141500\nExpires: 5\n\nx",
    *(
        b"M%sContent-Type: message/cpim\n%s\n%s" % (number, expires, _CPIM)
        for number in (b"001", b"012", b"013", b"101")
        for expires in (b"", b"Expires: 5\n")
    ),
    b"B0",
    *(
        b"M001X-Route: %s\n\nx" % words
        for words in (b"copy store", b"store fail", b"quiet store dump", b"headers relay")
    ),
    *(b"M001X-Failure-Route: %s\n\nx" % words for words in (b"copy", b"pass", b"fail", b"store refuse")),
    b"G111Contact: <sip:bob@127.0.0.2:5072>",
    b"G011Contact: <sip:bob@127.0.0.1:5071>;q=0.5",
    b"G111Contact: <sip:bob@127.0.0.2:5072>;q=0.5\nContact: <sip:bob@127.0.0.2:5079>",
    b"G311Contact: <sip:bob@127.0.0.4:5074;transport=tcp>",
    b"G111Contact: <sip:bob@127.0.0.2:5072>;expires=60",
    b"G111Contact: *\nExpires: 0",
    b"G121Contact: <sip:carol@127.0.0.2:5072>",
    b"G111",
    *(b"A0" + status for status in (b"200 OK", b"202 Accepted", b"100 x", b"302 x", b"407 x", b"480 x", b"482 x")),
    *(b"A0" + status for status in (b"403 x", b"503 x", b"603 x")),
    b"A0200 OK\nVia: SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bKother",
    *(letter + b"0" for letter in (b"C", b"C", b"C", b"E", b"E", b"F", b"X", b"N", b"K", b"O")),
    *(b"T%d" % ms for ms in (500, 2_000, 5_000, 9_000, 33_000, 60_000, 700_000)),
    *(b"J%d" % ms for ms in (2_000, 9_000, 50_000, 100_000)),
    b"P",
    b"H",
    b"D1",
    b"Z",
    b"Y",
)


def alter(story: bytes, source: random.Random) -> bytes:
    """Return a story with one to four records more, fewer, elsewhere or with other figures."""
    words, *records = story.split(SEPARATOR)
    for _ in range(source.randint(1, 4)):
        source.choice(_CHANGES)(records, source)
    if source.random() < 0.1:
        words = b" ".join(source.sample(_WORDS, source.randint(0, 4)))
    return SEPARATOR.join([words, *records])


def _add(records: list[bytes], source: random.Random) -> None:
    records.insert(source.randint(0, len(records)), source.choice(_RECORDS))


def _repeat(records: list[bytes], source: random.Random) -> None:
    if records:
        records.insert(source.randint(0, len(records)), source.choice(records))


def _remove(records: list[bytes], source: random.Random) -> None:
    if records:
        del records[source.randrange(len(records))]


def _move(records: list[bytes], source: random.Random) -> None:
    if records:
        record = records.pop(source.randrange(len(records)))
        records.insert(source.randint(0, len(records)), record)


def _renumber(records: list[bytes], source: random.Random) -> None:
    """Put another figure where one is, or a new one behind the letter."""
    if records:
        at = source.randrange(len(records))
        record = records[at]
        place = source.randint(1, 4)
        records[at] = record[:place] + b"%d" % source.randrange(4) + record[place + 1 :]


_CHANGES: Final[tuple[Callable[[list[bytes], random.Random], None], ...]] = (
    _add,
    _add,
    _repeat,
    _remove,
    _move,
    _renumber,
    _renumber,
)
