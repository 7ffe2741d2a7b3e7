"""The core is sans-IO: importing it brings in nothing that does I/O, and it is public where it says so."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import msilo_core
import msilo_runners
import msilo_storage

# Modules whose names are for the core's other modules, the runners and the stores; not for a user.
_INTERNAL = {
    "admission",
    "cpim",
    "desk",
    "digest",
    "element",
    "entropy",
    "following",
    "fork",
    "framing",
    "grammar",
    "guard",
    "head",
    "housekeeping",
    "identity",
    "imdn",
    "inbox",
    "intake",
    "keyring",
    "ledger",
    "nexthop",
    "nonces",
    "notifications",
    "outbound",
    "outcome",
    "pseudovars",
    "rates",
    "registrar",
    "relay",
    "reports",
    "rows",
    "silo",
    "targets",
    "transactions",
    "transport",
    "turns",
    "whereabouts",
}


@pytest.mark.parametrize("banned", ["asyncio", "socket", "select", "selectors", "ssl", "sqlite3"])
def test_the_core_loads_no(banned: str) -> None:
    code = f"import sys, msilo_core; sys.exit({banned!r} in sys.modules)"
    # -I: neither the environment nor the current directory may add to what is loaded.
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


def test_the_check_would_see_it() -> None:
    code = "import sys, asyncio, msilo_core; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 1


def test_the_core_exports_what_its_public_modules_do() -> None:
    modules = {module.name for module in pkgutil.iter_modules(msilo_core.__path__)}
    assert modules >= _INTERNAL
    expected: dict[str, object] = {}
    for name in sorted(modules - _INTERNAL):
        module = importlib.import_module(f"msilo_core.{name}")
        expected |= {public: getattr(module, public) for public in module.__all__}
    exported = {
        name: value
        for name, value in vars(msilo_core).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert exported == expected


@pytest.mark.parametrize("package", [msilo_runners, msilo_storage])
def test_every_exported_name_is_there(package: object) -> None:
    names: list[str] = vars(package)["__all__"]
    assert names == sorted(names)
    assert [name for name in names if not hasattr(package, name)] == []
