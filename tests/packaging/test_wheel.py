"""What a user gets: the wheel's contents, and the console script."""

import email.parser
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import msilo_core

_ROOT = Path(__file__).parents[2]
_PACKAGES = {
    "msilo_core": "msilo_core",
    "msilo_runners": "runners/msilo_runners",
    "msilo_storage": "storage/msilo_storage",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built without network as a packager does it."""
    directory = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, _ROOT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = directory.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_top_level(wheel: zipfile.ZipFile) -> None:
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert top == {*_PACKAGES, f"msilo-{msilo_core.__version__}.dist-info"}


def test_every_file_of_the_packages_is_in_it(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = {
        f"{package}/{path.relative_to(_ROOT / folder)}"
        for package, folder in _PACKAGES.items()
        for path in (_ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source
    assert {f"{package}/py.typed" for package in _PACKAGES} <= packed
    assert [name for name in packed if name.startswith("msilo_storage/schema/")]


def test_metadata(wheel: zipfile.ZipFile) -> None:
    info = f"msilo-{msilo_core.__version__}.dist-info"
    metadata = email.parser.Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["Version"] == msilo_core.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert "msilo = msilo_runners.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_console_script_runs() -> None:
    script = Path(sysconfig.get_path("scripts")) / "msilo"
    told = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert msilo_core.__version__ in told.stdout
