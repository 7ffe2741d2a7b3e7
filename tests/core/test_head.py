"""Start-line and header lines (RFC 3261 sections 7.3, 7.5 and 25.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import ParseError, PeerError, TooManyHeaders
from msilo_core.head import HEAD_END, Head, encode_head, split_head
from tests.core.wire import growth

START = "OPTIONS sip:a SIP/2.0"


def head_of(*lines: str) -> Head:
    """Return the head of a message with these header lines."""
    data = encode_head("\r\n".join([START, *lines])) + HEAD_END
    head, body = split_head(data + b"body", 128)
    assert body == b"body"
    assert head.start_line == START
    assert head.lines == list(lines)
    assert head.size_bytes == len(data) - len(HEAD_END)
    assert encode_head(head.text) + HEAD_END == data
    return head


def test_usual_lines() -> None:
    head = head_of("Via: a", "From: b", "Via: c", "X-Odd: d: e", "subject: ", "CALL-ID: f")

    assert head.keys == ["via", "from", "via", "x-odd", "subject", "call-id"]
    assert head.first == {"via": "a", "from": "b", "x-odd": "d: e", "subject": "", "call-id": "f"}
    assert head.values("via") == ["a", "c"]
    assert head.values("to") == []
    assert head.repeated == {"via"}


def test_names_without_anything_behind_them() -> None:
    head = head_of("Subject:", "Subject: ", "X-Odd:", "Q:")

    assert head.keys == ["subject", "subject", "x-odd", "q"]
    assert head.first == {"subject": "", "x-odd": "", "q": ""}
    for line in ("Subject", "X-Odd", ":", ": x", "Subject x: y", "é: x", "Via\xa0: x"):
        with pytest.raises(ParseError):
            head_of("Via: a", line)


def test_the_lines_of_a_head_are_nobody_elses() -> None:
    head = head_of("Via: a", "To: b")
    head.lines.clear()

    assert head.lines == ["Via: a", "To: b"]


def test_a_head_without_headers() -> None:
    assert head_of() == Head(START, [], {}, frozenset(), len(START), [])


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("i", "call-id"), ("m", "contact"), ("e", "content-encoding"), ("l", "content-length"), ("c", "content-type"),
        ("f", "from"), ("s", "subject"), ("k", "supported"), ("t", "to"), ("v", "via"), ("o", "event"),
        ("u", "allow-events"), ("r", "refer-to"), ("b", "referred-by"), ("x", "session-expires"),
        ("a", "accept-contact"), ("j", "reject-contact"), ("d", "request-disposition"), ("y", "identity"),
        ("n", "identity-info"), ("q", "q"),
    ],
)  # fmt: skip
def test_compact_forms_are_known_in_either_case(form: str, key: str) -> None:
    assert head_of(f"{form}: 1", f"{form.upper()}: 2").values(key) == ["1", "2"]
    # The same by the other way, which a line without a blank takes.
    assert head_of(f"{form}:1", f"{form.upper()} : 2").values(key) == ["1", "2"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("s:x", "x"),
        ("Subject:", ""),
        ("Subject  \t:\t x \t", "x"),
        ("Subject: a\r\n b", "a b"),
        ("Subject:\r\n\tb", "b"),
        ("Subject: a  \r\n \t b\r\n c ", "a   b c"),
        ("Subject: a\r\n ", "a"),
        ("Subject: a\r\n \r\n b", "a  b"),
        ("Subject: a\tb", "a\tb"),
        ('Subject: "\\\0\\\x7f\\\\"', '"\\\0\\\x7f\\\\"'),
        ("Subject: a\\", "a\\"),
        ("Subject: Żółw", "Żółw"),
        ("Subject: \udcff\udc80", "\udcff\udc80"),
        ("Subject: a\u2028b\x85c", "a\u2028b\x85c"),
    ],
)
def test_what_a_line_may_look_like(line: str, value: str) -> None:
    for lines in ([line], ["Via: a", line], [line, "To: b"], ["l:0", line]):
        head = head_of(*lines)

        assert head.first["subject"].strip(" \t") == value
        assert head.values("subject") == [value]


@pytest.mark.parametrize(
    "line",
    [
        "Subject", "Via", ":", ": x", "Sub ject: x", "Sub\tject: x", "Subject\r\n : x", "é: x", "Sub(ject): x",
        "To\u2029: x", "Subject: a\0b", "Subject: a\x01", "Subject: a\x7f", "Subject: a\rb", "Subject: a\nb",
        "Subject: a\r", "Subject: a\\\r", "Subject: a\\\n", "Subject: a\r\r\n b", "Subject: \\\\\0", "\0: x",
        "Subject: \x0b", "Subject: \x1b[2J",
    ],
)  # fmt: skip
def test_what_no_line_looks_like(line: str) -> None:
    for lines in ([line], ["Via: a", line], [line, "To: b"], ["l:0", line]):
        data = encode_head("\r\n".join([START, *lines])) + HEAD_END
        with pytest.raises(ParseError):
            split_head(data, 128)


@pytest.mark.parametrize("start", ["\tOPTIONS", "OPTIONS sip:a SIP/2.0\r\n ", "OPT\0IONS", "OPTIONS \\\0", "a\x7f"])
def test_neither_folds_nor_control_characters_in_a_start_line(start: str) -> None:
    with pytest.raises(ParseError):
        split_head(encode_head(f"{start}\r\nl:0") + HEAD_END, 128)


def test_line_ends_before_the_start_line_are_passed_over() -> None:
    data = encode_head(f"{START}\r\nVia: a") + HEAD_END

    assert split_head(b"\r\n\r\n\r\n" + data, 128) == split_head(data, 128)
    for junk in (b"\n", b"\r", b"\n\r", b"\r\n\n", b"\r\n\r\r\n"):
        with pytest.raises(ParseError):
            split_head(junk + data, 128)


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"a: b\r\n", b"a: b\r\n\r", b"a: b\n\n", b"a\r\n \r\n"])
def test_a_head_has_an_end(data: bytes) -> None:
    with pytest.raises(ParseError):
        split_head(data, 128)


@pytest.mark.parametrize("line", ["X: y", "X:y", "X: y\r\n z"])
def test_the_number_of_lines_is_bounded(line: str) -> None:
    lines = [line] * 3
    data = encode_head("\r\n".join([START, *lines])) + HEAD_END

    assert split_head(data, 4)[0].lines == split_head(data, 3)[0].lines == lines
    with pytest.raises(TooManyHeaders) as caught:
        split_head(data, 2)
    assert (caught.value.size, caught.value.limit) == (3, 2)


_NAMES = st.sampled_from(["Via", "v", "VIA", "Subject", "s", "X-Odd", "Content-Length"])
_COLONS = st.sampled_from([": ", ":", " : ", "\t:", ":\r\n ", ":  "])
_VALUES = st.lists(st.sampled_from(["a", "b: c", "é", "\udc80", "\t", " ", "\r\n ", '"\\\0"', "\\"]), max_size=4).map(
    "".join
)


@given(st.lists(st.builds("{}{}{}".format, _NAMES, _COLONS, _VALUES), max_size=5))
def test_both_ways_agree_on_what_is_there(lines: list[str]) -> None:
    head = head_of(*lines)
    # A line without a blank behind its colon makes the whole head go the strict way.
    strict = head_of(*lines, "Z:1")

    assert strict.keys == [*head.keys, "z"]
    for key in head.keys:
        assert strict.values(key) == head.values(key)
        assert strict.first[key].strip(" \t") == head.first[key].strip(" \t") == head.values(key)[0]


_OCTETS = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b": ", b":", b" ", b"\t", b"Via", b"v", b"x", b"\0", b"\\", b"\xff", b"\r\n\r\n"]
)


@given(st.lists(_OCTETS | st.binary(max_size=3), max_size=12).map(b"".join))
def test_any_octets_are_a_head_or_refused(data: bytes) -> None:
    try:
        head, body = split_head(data, 4)
    except PeerError:
        return
    assert data.endswith(encode_head(head.text) + HEAD_END + body)
    assert not data.removesuffix(encode_head(head.text) + HEAD_END + body).replace(b"\r\n", b"")
    assert len(head.keys) == len(head.lines)
    assert set(head.keys) == set(head.first)


@pytest.mark.parametrize(
    "piece",
    [
        b"a: b\r\n",
        b"a:b\r\n",
        b" ",
        b"\r\n ",
        b"\r\n",
        b"a: ",
        b"\\",
        b"\\\0",
        b"\t",
        b": \r\n",
        b"v: \r\n \r\n",
        b"\xff",
        b"\r",
    ],
)
def test_hostile_heads_take_linear_time(piece: bytes) -> None:
    def split(size: int) -> None:
        for start in (b"", b"M sip:a SIP/2.0\r\n", b"M sip:a SIP/2.0\r\nSubject: x", b"M sip:a SIP/2.0\r\nl:0\r\nx:"):
            for end in (b"", b"\r\n\r\n", b"\0\r\n\r\n"):
                try:
                    head, _ = split_head(start + piece * (size // len(piece)) + end, size)
                except PeerError:
                    continue
                for key in head.first:
                    head.values(key)

    assert growth(split) < 32
