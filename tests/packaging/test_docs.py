"""What the documentation says is so: the runner runs, the diagrams are the tables, the settings are the code's."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

import click
import msgspec
import pytest

from msilo_core import Aor, SiloConfig, User
from msilo_core.actions import FindUser, UserFound
from msilo_core.transactions import CLIENT_TABLE, SERVER_TABLE
from msilo_runners import settings
from msilo_runners.cli import msilo
from msilo_runners.settings import Settings, parse_settings
from msilo_storage import UserFile
from msilo_storage.tables import OUR_COLUMNS
from tests.runners.peer import Peer

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_SIP, _SETTINGS, _RUNNER, _KAMAILIO, _PROMISE, _WORKERS, _OPERATING = (
    (_DOCS / name).read_text()
    for name in ("sip.md", "settings.md", "runner.md", "kamailio.md", "promise.md", "workers.md", "operating.md")
)


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_runner() -> None:
    (code,) = blocks(_RUNNER, "python")
    with subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            with Peer(("127.0.0.1", port), "udp") as alice, Peer(("127.0.0.1", port), "udp") as phone:
                assert alice.exchange(alice.message("bob", body=b"kept")).status == 202
                assert phone.exchange(phone.registration("bob")).status == 200
                (delivered,) = phone.take(1)
                assert delivered.body == b"kept"
        finally:
            process.kill()


# -- What is generated -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_there", [True, False])
def test_make_docs_would_change_nothing(is_there: bool, tmp_path: Path) -> None:
    copies = [Path(shutil.copy(_DOCS / name, tmp_path)) for name in ("sip.md", "settings.md")]
    if not is_there:
        for copy in copies:
            emptied, count = re.subn(r"(<!-- [a-z ]+: .*-->\n)[^<]*(?:<br/>[^<]*)*", r"\1", copy.read_text())
            assert count
            copy.write_text(emptied)
            assert len(emptied) < len((_DOCS / copy.name).read_text())
    subprocess.run([sys.executable, _DOCS / "generate.py", *copies], check=True, timeout=30)
    assert [copy.read_text() for copy in copies] == [_SIP, _SETTINGS]


@pytest.mark.parametrize(("index", "keys"), [(0, CLIENT_TABLE.items()), (1, SERVER_TABLE.items())])
def test_diagram_has_every_arrow_of_the_table(
    index: int, keys: Iterable[tuple[tuple[IntEnum, IntEnum], tuple[object, IntEnum]]]
) -> None:
    first, begin, *arrows, end = blocks(_SIP, "mermaid")[index].splitlines()
    assert (first, end) == ("stateDiagram-v2", "    Terminated --> [*]")
    assert begin.startswith("    [*] --> Trying: ")
    drawn: list[tuple[str, str]] = []
    words: set[str] = set()
    for arrow in arrows:
        match = re.fullmatch(r"    (\w+) --> (\w+): (.+)", arrow)
        assert match is not None
        labels = match[3].split("<br/>")
        drawn += [(match[1], match[2])] * len(labels)
        words |= {verb for label in labels if (verb := label.partition(" / ")[2])}
    there = [(state.name.capitalize(), next_state.name.capitalize()) for (state, _), (_, next_state) in keys]
    assert sorted(drawn) == sorted(there)
    # Each word on an arrow is explained below.
    assert words <= set(re.findall(r"\*\*([a-z ]+)\*\*:", _SIP))


# -- What is named -----------------------------------------------------------------------------------------------------


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"(tests/[\w/]+\.py)::([\w:]+)", _SIP + _KAMAILIO + _PROMISE + _WORKERS))
    assert len(named) > 400
    trees = {file: ast.parse((_ROOT / file).read_text()) for file in {file for file, _ in named}}
    assert [f"{file}::{name}" for file, name in sorted(named) if not _is_there(trees[file], name.split("::"))] == []


def _is_there(tree: ast.Module | ast.ClassDef, names: list[str]) -> bool:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and len(names) > 1 and node.name == names[0]:
            return _is_there(node, names[1:])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and [node.name] == names:
            return node.name.startswith("test_")
    return False


def test_every_target_that_is_named_is_there() -> None:
    pages = [*_DOCS.glob("*.md"), _ROOT / "README.md", _ROOT / "CONTRIBUTING.md"]
    named = {name for page in pages for name in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert named >= {"check", "faults", "sim"}
    rules = re.findall(r"^([a-z -]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named <= {target for rule in rules for target in rule.split()}


def test_every_promise_says_what_it_was_held_under() -> None:
    rows = [line for line in _PROMISE.splitlines() if line.startswith("| ")][2:]
    assert re.findall(r"^\| \*\*(P\d+)\*\* ", "\n".join(rows), re.MULTILINE) == [f"P{n}" for n in range(1, 11)]
    shown = r"(?:make (?:faults|sim)|fuzz/run|tests/[\w/.:]+)"
    assert [row for row in rows if not re.fullmatch(rf"(?:\|[^|]+){{3}}\|(?: `{shown}`,?)+ \|", row)] == []


@pytest.mark.parametrize("page", sorted(_DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"\b((?:tests|docs|msilo_core|runners|storage|fuzz|bench)/[\w./]*\.\w+)", text))
    linked = {(page.parent / link).resolve() for link in re.findall(r"\]\(([\w./]+)\)", text)}
    assert [name for name in sorted(named) if not (_ROOT / name).exists()] == []
    assert [path for path in sorted(linked) if not path.exists()] == []


def test_every_row_of_a_table_names_a_test() -> None:
    rows = [line for line in _SIP.splitlines() if re.match(r"\| (?:RFC )?[0-9]", line)]
    assert len(rows) > 200
    assert [row for row in rows if not re.fullmatch(r"(?:\|[^|]+){3}\|(?: `tests/[\w/.:]+`,?)+ \|", row)] == []


def test_every_column_of_ours_has_a_meaning() -> None:
    (columns,) = re.findall(r"^## What the columns mean\n(.*?)^## ", _OPERATING, re.MULTILINE | re.DOTALL)
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in columns.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in row} == {"status", *OUR_COLUMNS}


def test_every_option_that_is_named_is_there() -> None:
    commands: list[click.Command] = [msilo]
    options: set[str] = set()
    for command in commands:
        options |= {name for parameter in command.params for name in parameter.opts}
        if isinstance(command, click.Group):
            commands += command.commands.values()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", _SETTINGS + _KAMAILIO + _WORKERS))
    assert len(named) > 10
    assert named <= options


# -- The settings ------------------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_code() -> None:
    tables = {field.name: field.type for field in msgspec.structs.fields(settings._File)}  # pyright: ignore[reportPrivateUsage]
    sections = dict(re.findall(r"^## \[(\w+)\]\n(.*?)(?=^## )", _SETTINGS, re.MULTILINE | re.DOTALL))
    assert sections.keys() == tables.keys()
    lines: list[str] = []
    for name, section in sections.items():
        rows = re.findall(r"^\| `(\w+)` \| (?:`(.+?)`|none) \| \S.* \|$", section, re.MULTILINE)
        assert len(rows) == section.count("\n| ") - 2
        assert [key for key, _ in rows] == [field.name for field in msgspec.structs.fields(tables[name])]
        lines.append(f"[{name}]")
        for key, default in rows:
            if default:
                lines.append(f"{key} = {default}")
            else:
                assert getattr(tables[name](), key) is None
    assert parse_settings("\n".join(lines)) == Settings()


def test_example_of_a_file_is_understood() -> None:
    (example,) = blocks(_SETTINGS, "toml")
    server = parse_settings(example).server
    assert (server.users, server.domains) == ("store", ("example.com",))


def test_every_parameter_of_kamailio_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^|]+)`|none) \| [^|]+ \| [^|]+ \|$", _KAMAILIO, re.MULTILINE)
    assert len({name for name, _ in rows}) == len(rows) == 34
    ours = {name: str(default) for name, default in msgspec.structs.asdict(SiloConfig()).items()}
    theirs = {**dict(rows), "add_date": "0"}
    del theirs["db_url"]
    assert theirs == {name: ours[name] for name in ours if name in theirs}
    assert ours.keys() - theirs.keys() == {
        "reminder_sender",
        "time_zone",
        "content_types",
        "imdn",
        "max_bytes",
        "max_messages_per_sender",
    }


def test_everything_of_kamailio_has_its_word_and_a_test() -> None:
    rows = [line for line in _KAMAILIO.splitlines() if line.startswith("| `")]
    assert len(rows) == 34 + 3 + 5
    what = r"\|[^|]+\|(?: (?:`[^|]+`|none) \|)? (?:Same|Better|Different)\b[^|]*\|(?: `tests/[\w/.:]+`,?)+ \|"
    assert [row for row in rows if not re.fullmatch(what, row)] == []


async def test_example_of_a_file_of_users_is_understood(tmp_path: Path) -> None:
    (example,) = blocks(_SETTINGS, "text")
    path = tmp_path / "users"
    path.write_text(example)
    owner = Aor("alice", "example.com")
    (found,) = await UserFile(path).find_users([FindUser(1, owner)])
    known = msgspec.structs.replace(User.with_password(owner, "correct horse"), ha1b="")
    assert found == UserFound(1, known)
