"""A real Kamailio with its module msilo, as Debian packages them, on a table in a PostgreSQL of the tests."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from tests.ports import free_port
from tests.postgres import Console
from tests.runners.peer import Address, Peer, unique

__all__ = ["Kamailio", "Value", "configuration", "create_tables", "missing_packages", "require"]

Value = str | int
"""Of a parameter of a module."""

# It is there in a second; one that is not after this never will be.
_READY_S: Final = 30.0
_SCRIPTS: Final = Path("/usr/share/kamailio/postgres")

# What it needs to be registrar, relay and silo, and no more. `msilo` is in the place that its manual has for it: a
# MESSAGE for somebody who is away is stored, a REGISTER has what waits sent. What its own module sends comes back here
# where it is its own outbound_proxy, goes to the phone, and is not stored again.
_CONFIGURATION: Final = """\
#!KAMAILIO
debug=2
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
alias="example.com"
listen=udp:127.0.0.1:{port}

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "db_postgres.so"
loadmodule "msilo.so"

modparam("usrloc", "db_mode", 0)
# A phone that does not answer is given up soon.
modparam("tm", "fr_timer", 3000)
{parameters}

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (is_method("OPTIONS")) {{
        sl_send_reply("200", "OK");
        exit;
    }}
    if (is_method("REGISTER")) {{
        save("location");
        m_dump();
        exit;
    }}
    if (!is_method("MESSAGE")) {{
        sl_send_reply("405", "Method Not Allowed");
        exit;
    }}
    if (!t_newtran()) {{
        sl_reply_error();
        exit;
    }}
    $avp(due) = $hdr(X-Deliver-At);
    $var(owner) = $ru;
    if ($avp(due) == $null && lookup("location")) {{
        if (!t_relay()) {{
            t_reply("500", "Not Relayed");
        }}
        exit;
    }}
    if (src_ip == myself && $sp == {port}) {{
        t_reply("480", "Away");
        exit;
    }}
    if (m_store("$var(owner)")) {{
        t_reply("202", "Accepted");
    }} else {{
        t_reply("503", "Not Stored");
    }}
    exit;
}}
"""


def missing_packages() -> list[str]:
    """Return which of Debian's packages are not installed."""
    return [
        package
        for package, is_there in [
            ("kamailio", shutil.which("kamailio", path=_PATH) is not None),
            ("kamailio-postgres-modules", (_SCRIPTS / "msilo-create.sql").exists()),
        ]
        if not is_there
    ]


def require() -> None:
    """Skip the tests of whoever calls it where Kamailio is not installed; with CI=true it must be."""
    missing = missing_packages()
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})")
    assert missing == []


def create_tables(url: str) -> None:
    """Make the tables of an empty database as Debian's scripts make them."""
    with Console(url) as console:
        for name in ("standard", "msilo"):
            console.execute((_SCRIPTS / f"{name}-create.sql").read_text())


def configuration(port: int, parameters: Mapping[str, Value], template: str = _CONFIGURATION) -> str:
    """Return a kamailio.cfg.

    Args:
        port: UDP port to listen on.
        parameters: of the module msilo.
        template: where these two are filled in.
    """
    lines = [f'modparam("msilo", "{name}", {_literal(value)})' for name, value in parameters.items()]
    return template.format(port=port, parameters="\n".join(lines))


class Kamailio:
    """A running Kamailio; leaving the context ends it.

    Attributes:
        udp: (host, port) of its socket.
        configuration: its kamailio.cfg.
        log: file with all that it says.
    """

    def __init__(
        self,
        directory: Path,
        *,
        storage: str,
        parameters: Mapping[str, Value],
        changes: Mapping[str, str] = MappingProxyType({}),
        template: str = _CONFIGURATION,
        memory_mb: int = 32,
        memory_each_mb: int = 8,
    ) -> None:
        """Start it and wait until it answers.

        Args:
            directory: for its files; it may hold those of another Kamailio.
            storage: storage URL of the database, where its tables are.
            parameters: of the module msilo, beside ``db_url`` and, by default, itself as the ``outbound_proxy``.
            changes: what stands in its configuration, and what stands there instead.
            template: of its configuration.
            memory_mb: that its processes share; 32 MB are enough for a few messages.
            memory_each_mb: that each of them has for itself; 8 MB are Kamailio's default.

        Raises:
            AssertionError: it ended, or does not answer; with its log.
        """
        port = free_port()
        self.udp: Address = ("127.0.0.1", port)
        self.log = directory / f"kamailio-{port}.log"
        path = self.configuration = directory / f"kamailio-{port}.cfg"
        # libpq takes from the environment what the URL does not say.
        own = {"db_url": "postgres://postgres@/postgres", "outbound_proxy": f"sip:127.0.0.1:{port}"}
        text = configuration(port, {**own, **parameters}, template)
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                # In the foreground, speaking to stderr.
                [
                    "kamailio", "-DD", "-E", "-m", str(memory_mb), "-M", str(memory_each_mb), "-f", path,
                    "-w", directory, "-P", path.with_suffix(".pid"),
                ],
                cwd=directory,
                env={**os.environ, "PATH": _PATH, "TZ": "UTC", **_libpq(storage)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Number of its first process; the others are children of that."""
        return self._process.pid

    def log_text(self) -> str:
        """Return what it said so far."""
        return self.log.read_text(errors="backslashreplace")

    def stop(self) -> None:
        """End it, all of its processes."""
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        # Whoever is left of its session.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        with Peer(self.udp) as peer:
            while True:
                assert self._process.poll() is None, f"Kamailio ended\n{self.log_text()}"
                assert time.monotonic() < deadline, f"Kamailio does not answer\n{self.log_text()}"
                options = peer.request(
                    "OPTIONS sip:example.com SIP/2.0",
                    [
                        ("From", f"<sip:test@example.com>;tag={unique()}"),
                        ("To", "<sip:example.com>"),
                        ("Call-ID", unique()),
                        ("CSeq", "1 OPTIONS"),
                        ("Content-Length", "0"),
                    ],
                )
                with suppress(TimeoutError):
                    assert peer.exchange(options, timeout_s=0.1).status == 200
                    return


# Debian has it where only root looks.
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin"


def _literal(value: Value) -> str:
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
    return f'"{escaped}"'


def _libpq(url: str) -> dict[str, str]:
    """Return a PostgreSQL URL as environment variables of libpq."""
    parts = urlsplit(url)
    parameters = dict(parse_qsl(parts.query))
    given = {
        "PGHOST": parameters.get("host") or parts.hostname,
        "PGPORT": parts.port,
        "PGUSER": parts.username,
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
        "PGOPTIONS": f"-c search_path={parameters['search_path']}",
    }
    return {name: str(value) for name, value in given.items() if value}
