"""The examples that Debian's package `kamailio` ships: files of others, which are read where they are installed.

They are no part of the project. Where the package is not installed, or was installed without its documentation,
``MSILO_KAMAILIO`` may name a folder that it was unpacked into (``apt-get download kamailio``, ``dpkg-deb -x``).
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from msilo_runners import SettingsError
from msilo_runners.kamailio import import_kamailio
from msilo_runners.settings import parse_settings
from tests.runners.service import run_msilo


def examples() -> list[Path]:
    """Return the configuration files of the package."""
    folder = os.environ.get("MSILO_KAMAILIO")
    if folder is not None:
        return sorted(Path(folder).rglob("*.cfg"))
    try:
        listed = subprocess.run(["dpkg", "-L", "kamailio"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this is no Debian: set MSILO_KAMAILIO to a folder with the package kamailio unpacked")
    if listed.returncode != 0:
        pytest.skip("Debian's package kamailio is not installed: apt-get install kamailio, or set MSILO_KAMAILIO")
    return [path for line in listed.stdout.splitlines() if (path := Path(line)).suffix == ".cfg" and path.is_file()]


@pytest.fixture(scope="module")
def shipped() -> list[Path]:
    found = examples()
    if not any(path.name == "msilo.cfg" for path in found):
        pytest.skip(
            "Debian's package kamailio was installed without its documentation (path-exclude in /etc/dpkg/dpkg.cfg.d): "
            "set MSILO_KAMAILIO to a folder with it unpacked"
        )
    return found


def test_the_example_of_msilo_is_carried_over(shipped: list[Path], tmp_path: Path) -> None:
    (path,) = (path for path in shipped if path.name == "msilo.cfg" and path.parent.name == "kamailio")
    output = tmp_path / "msilo.toml"
    done = run_msilo("config", "import-kamailio", str(path), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert run_msilo("config", "check", str(output)).stdout == f"{output}: ok\n"
    text = output.read_text()
    server = parse_settings(text).server
    # It sets db_url alone, to a MySQL; what else it says is not of offline messages, or in a route.
    assert (server.storage, server.silo.add_date) == ("sqlite:///msilo.db", 1)
    assert re.search(r'^# db_url = "mysql://kamailio:\*\*\*@localhost/kamailio"$', text, re.MULTILINE)
    assert re.search(r"functions of msilo that the routes call: m_dump \(\d+\), m_store \(\d+\), m_store \(\d+\)", text)


def test_every_example_is_understood(shipped: list[Path]) -> None:
    complaints: list[str] = []
    for path in shipped:
        try:
            text = import_kamailio(path, defines={}, environ={}, zone=None).text
        except SettingsError as error:
            complaints.append(str(error))
            continue
        parse_settings(text)
        assert "this is not understood" not in text, path
    # Files that an operator is to write before, and two old ones whose #!ifdefs do not match.
    expected = r".*\.cfg:\d+: (?:.*: No such file or directory|an #!(?:ifdef|endif) without its #!(?:endif|ifdef))"
    assert [complaint for complaint in complaints if re.fullmatch(expected, complaint) is None] == []
    assert len(complaints) < len(shipped) / 5
