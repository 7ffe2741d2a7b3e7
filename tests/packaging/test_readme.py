"""The README's code does what the README says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runners.service import MSILO, Service

_README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_first_conversation(backend: str, tmp_path: Path) -> None:
    (commands,) = (block for block in blocks("sh") if "msilo listen" in block)
    said, heard = "SIP/2.0 202 Accepted\n", blocks("text")[0]
    with Service(tmp_path, "--backend", backend, storage=f"sqlite:///{tmp_path}/msilo.db") as service:
        host, port = service.udp
        outputs: list[str] = []
        for line in commands.splitlines():
            program, command, *arguments = shlex.split(line)
            assert program == ".venv/bin/msilo"
            ran = subprocess.run(
                [MSILO, command, "--server", f"udp://{host}:{port}", *arguments],
                capture_output=True, text=True, timeout=30, check=True,
            )  # fmt: skip
            outputs.append(ran.stdout)
    assert outputs == [said, said, heard]


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
    assert line.endswith(" && .venv/bin/pytest")


def test_every_file_that_it_names_is_there() -> None:
    root = Path(__file__).parents[2]
    named = {*re.findall(r"tests/\w+/\w+\.py", _README), *re.findall(r"\]\(([\w./]+)\)", _README)}
    assert len(named) > 5
    assert [name for name in named if not (root / name).exists()] == []
