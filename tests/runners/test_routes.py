"""``--route``: route functions of the operator's own, and what is said where there are none."""

import sys
from pathlib import Path

import pytest

from msilo_runners.errors import SettingsError
from msilo_runners.routes import load_route
from tests.runners.peer import Peer
from tests.runners.service import Service

ROUTE = """
from msilo_core import ServerRoute

class Refusing(ServerRoute):
    def request_route(self, call):
        call.reply(603, "Not Here")

class Broken(ServerRoute):
    def __init__(self):
        raise KeyError("no table")

class NoRoute:
    def request_route(self, call):
        pass

class Raising(ServerRoute):
    def request_route(self, call):
        raise ValueError(f"no rule for {call.request.body.decode()}")

number = 5
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that we are in, with a module of routes."""
    (tmp_path / "own_routes.py").write_text(ROUTE)
    (tmp_path / "not_python.py").write_text("def x(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    for name in ("own_routes", "not_python"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("own_routes", "route 'own_routes' names no class: give MODULE:CLASS, such as my_routes:MyRoute"),
        (":Refusing", "names no class"),
        ("own_routes:", "names no class"),
        ("no_such_module:X", "cannot import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"),
        ("not_python:X", "cannot import not_python: SyntaxError"),
        ("own_routes:Nobody", "own_routes has no class Nobody"),
        ("own_routes:number", "own_routes has no class number"),
        ("own_routes:NoRoute", "is no route: it lacks uses_location, failure_route; derive it from ServerRoute"),
        ("own_routes:Broken", "cannot make one: KeyError: 'no table'"),
    ],
)
def test_what_is_no_route(name: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_route(name)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("here")
def test_class_of_a_module_that_lies_here() -> None:
    assert type(load_route("own_routes:Refusing")).__name__ == "Refusing"
    assert type(load_route("own_routes:Refusing")).__name__ == "Refusing"


def test_server_with_a_route_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own_routes.py").write_text(ROUTE)
    storage = f"sqlite:///{tmp_path / 'msilo.db'}"
    service = Service(tmp_path, "--route", "own_routes:Refusing", storage=storage)
    with service, Peer(service.address("udp"), "udp") as alice:
        assert alice.exchange(alice.message("bob", b"a question")).status == 603


def test_what_a_route_raises_is_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "own_routes.py").write_text(ROUTE)
    service = Service(tmp_path, "--route", "own_routes:Raising", storage="memory:")
    with service, Peer(service.address("udp"), "udp") as alice:
        for _ in range(3):
            assert alice.exchange(alice.message("bob", b"\x1b[2J")).status == 500
    log = service.log.read_text()
    # Once for all that come within ten seconds.
    assert log.count("ERROR bug: a route function raised; 1 times so far\n") == log.count("Traceback") == 1
    assert "own_routes.py" in log
    assert "ValueError: no rule for \\x1b[2J\n" in log
