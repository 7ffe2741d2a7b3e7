"""The benchmarks of the parser: that they measure what they say. What they measured means nothing here."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import pytest

import msilo_core
from bench import hostile, needed, worst
from bench.messages import messages, registers
from bench.parse import require_equal
from bench.parsers import Parser, accessors_of, discover, parser_of
from bench.peers import Subject, comparable, load_peers, ours, pip_command
from msilo_core import ParseError, Request, parse_message
from tests.bench.command import bench

# -- Against the peers -------------------------------------------------------------------------------------------------


def test_the_messages_are_those_of_the_goals() -> None:
    for corpus, size, headers in ((messages(20), 530, 10), (registers(20), 809, 13)):
        assert {len(data) for data in corpus} == {size}
        assert {len(parse_message(data).raw_lines) for data in corpus} == {headers}
        assert all(isinstance(parse_message(data), Request) for data in corpus)
        assert len(set(corpus)) == 20
    assert messages(3, seed=7) == messages(3, seed=7)


def test_ours_alone() -> None:
    line = bench("parse", "--no-peers", "--repeats", "2", "--count", "20")
    assert line["MESSAGE"].keys() == {"us", "ratio"}
    assert line["MESSAGE"]["us"]["msilo"] > 0
    assert line["REGISTER"]["us"]["msilo"] > 0
    assert line["versions"].keys() == {"msilo"}


def test_what_is_needed() -> None:
    request = registers(1)[0]
    values = comparable(needed.register(request))
    user = request.partition(b"To: <sip:")[2].partition(b"@")[0]
    assert values[0] == b"REGISTER"
    assert values[-3] == 3600
    ((contact_user, contact_host, _, instance),) = values[-2]
    assert (contact_user, contact_host) == (user, b"192.0.2.17")
    assert instance.startswith(b"<urn:uuid:")
    assert comparable(needed.message(messages(1)[0]))[-1].startswith(b"The quick")


def test_a_peer_that_reads_something_else_is_not_measured() -> None:
    def other(data: bytes) -> needed.Needed:
        return (*needed.message(data)[:-1], b"another body")

    require_equal([ours(), ours()])
    with pytest.raises(click.ClickException, match="peer reads MESSAGE as"):
        require_equal([ours(), Subject("peer", "0", other, needed.register)])


def test_a_folder_without_the_peers_says_how_to_fill_it(tmp_path: Path) -> None:
    (tmp_path / "tests_of_a_peer").mkdir()
    (tmp_path / "tests_of_a_peer" / "__init__.py").touch()
    with pytest.raises(click.ClickException) as caught:
        load_peers(tmp_path)

    assert " ".join(pip_command(tmp_path)) in caught.value.message
    assert "\n" not in caught.value.message
    # Nothing in the folder is found afterwards: sippy has a top-level `tests`, which would hide ours.
    assert str(tmp_path) not in sys.path
    assert importlib.util.find_spec("tests_of_a_peer") is None


# -- Worst cases -------------------------------------------------------------------------------------------------------


def test_no_parser_is_left_out() -> None:
    names = {parser.name for parser in discover()}
    parsers = {name for name in dir(msilo_core) if name.startswith(("parse_", "split_", "check_", "tokenise"))}
    assert len(parsers) > 20
    assert parsers <= names
    assert {
        "parse_uri", "parse_message", "tokenise", "split_head", "topmost_via", "SipUri.equivalent", "SipUri.aor",
        "Via.completed", "NameAddr.uri", "Head.values", "Headers.contacts", "Request.validate", "StreamFramer, whole",
        "StreamFramer, octet by octet",
    } <= names  # fmt: skip


def test_what_nobody_knows_how_to_call_is_refused() -> None:
    def parse_two(text: str, other: int) -> object:
        return text, other

    class Value(msgspec.Struct):
        def compare(self, other: int) -> bool:
            return bool(other)

    with pytest.raises(LookupError, match="parse_two"):
        parser_of(parse_two)
    with pytest.raises(LookupError, match=r"Value\.compare"):
        accessors_of(Value, _parser(parse_two.__name__))


def test_a_parser_that_takes_no_sample_is_refused() -> None:
    with pytest.raises(LookupError, match="samples"):
        next(hostile.of_text(lambda text: text == "what no sample says"))


@pytest.mark.parametrize("parser", discover(), ids=lambda parser: parser.name)
def test_each_parser_has_inputs_that_get_into_it(parser: Parser) -> None:
    recipes = hostile.of_text(lambda text: worst.accepts(parser, text)) if parser.takes == "text" else None
    assert next(recipes or hostile.of_octets())


def test_recipes_have_the_size_that_is_asked_for() -> None:
    recipes = [*hostile.of_octets(), *hostile.of_text(lambda text: text == "1 MESSAGE")]
    for recipe in recipes:
        assert 3_700 < len(recipe.text(4_000)) <= 4_000, recipe
    assert hostile.Recipe("<", "a", "b", ">").text(7) == "<aabb>"
    shown = [str(recipe) for recipe in recipes]
    assert "'1 M' + ';a' * n + '>'" not in shown
    assert "'1 MESSAGE' + ';a' * n + '>'" in shown


def test_a_parser_whose_time_grows_faster_than_its_input_is_found() -> None:
    def parse(text: str) -> int:
        if not text.startswith("1 MESSAGE"):
            raise ParseError("1 MESSAGE", text)
        return sum(text.count(";a" * size) for size in range(2, len(text) // 8)) if text.endswith('"') else 0

    found = worst.worst_of(_parser("parse", parse), small=(200, 800), large=(1_600,))

    assert found.size == 1_600
    assert found.recipe.startswith("'1 MESSAGE' + ")
    assert found.recipe.endswith(" + '\"'")
    assert found.ms > 0


def test_the_slowest_input_is_printed() -> None:
    line = bench("parse", "--worst", "--only", "parse_max_forwards")
    ((parser),) = line["worst"]
    assert parser["parser"] == "parse_max_forwards"
    assert parser["size"] == 65_536
    assert " * n + " in parser["recipe"]
    assert line["max_ms"] == parser["ms"]


def _parser(name: str, work: Callable[[str], object] = len) -> Parser:
    def same(text: str) -> str:
        return text

    return Parser(name=name, takes="text", make=same, work=work)
