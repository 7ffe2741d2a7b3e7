"""The README's code does what the README says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runners.service import MSILO, Service, run_msilo

_README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_first_conversation(backend: str, tmp_path: Path) -> None:
    commands, _ = (block for block in blocks("sh") if "msilo listen" in block)
    said, heard = "SIP/2.0 202 Accepted\n", blocks("text")[0]
    with Service(tmp_path, "--backend", backend, storage=f"sqlite:///{tmp_path}/msilo.db") as service:
        outputs = [talk(service, *words).stdout for words in spoken(commands)]
    assert outputs == [said, said, heard]


def test_people_with_passwords(tmp_path: Path) -> None:
    (made,) = (block for block in blocks("sh") if "msilo user add" in block)
    *users, serve = made.splitlines()
    program = tmp_path / ".venv" / "bin" / "msilo"
    program.parent.mkdir(parents=True)
    program.symlink_to(MSILO)
    ran = subprocess.run(
        ["sh", "-euc", "\n".join(users)], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout.splitlines()[1:] == ["sip:alice@example.com: added", "sip:bob@example.com: added"]
    ((command, *options),) = spoken(serve)
    assert command == "serve"
    _, commands = (block for block in blocks("sh") if "msilo listen" in block)
    with Service(tmp_path, *options, storage="sqlite:///msilo.db") as service:
        send, listen = spoken(commands)
        assert talk(service, *send).stdout == "SIP/2.0 202 Accepted\n"
        assert talk(service, *listen).stdout == "sip:alice@example.com: Me again.\n"
        # What is said of who has no password.
        asked, refused = re.findall(r"prints `(.+?)`, and `listen` says\s`(.+?)`", _README)[0]
        assert talk(service, *without_password(send), status=1).stdout == f"{asked}\n"
        assert refused in talk(service, *without_password(listen), status=1).stderr


def spoken(commands: str) -> list[list[str]]:
    """Return the words of each line behind the name of the program."""
    lines = [shlex.split(line) for line in commands.splitlines()]
    assert {program for program, *_ in lines} == {".venv/bin/msilo"}
    return [words for _, *words in lines]


def without_password(words: list[str]) -> list[str]:
    """Return the words of a command without its password."""
    at = words.index("--password")
    return words[:at] + words[at + 2 :]


def talk(service: Service, command: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a phone of the command line, which ends with this status."""
    host, port = service.udp
    ran = run_msilo(command, "--server", f"udp://{host}:{port}", *arguments)
    assert ran.returncode == status, ran.stderr
    return ran


@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_python(index: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks("python")[index]],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    if "server.addresses" in blocks("python")[index]:
        assert re.fullmatch(r"\['udp://127\.0\.0\.1:\d+'\] \[\]\n", ran.stdout)
    else:
        assert ran.stdout.startswith(blocks("text")[1])


def test_the_test_command_is_what_the_gate_runs() -> None:
    # The gate takes the line out of the README; it has to stay where it looks.
    section = _README.partition("\n## Test it\n")[2].partition("\n## ")[0]
    (line,) = (line for line in section.splitlines() if line.startswith("python3 -m venv"))
    assert line.endswith(" && .venv/bin/pytest -n auto")


def test_every_file_that_it_names_is_there() -> None:
    root = Path(__file__).parents[2]
    named = {*re.findall(r"tests/\w+/\w+\.py", _README), *re.findall(r"\]\(\s*([\w./]+)\)", _README)}
    assert len(named) > 5
    assert [name for name in named if not (root / name).exists()] == []
