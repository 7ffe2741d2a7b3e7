"""Test clients that others wrote, each against a real server."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners.service import Service, run_msilo
from tests.runners.tables import execute, inbox

_SIPP_SCENARIO = """\
<?xml version="1.0" encoding="UTF-8"?>
<scenario name="a MESSAGE for someone away">
  <send retrans="500"><![CDATA[
MESSAGE sip:bob@example.com SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: "sipp" <sip:sipp@example.com>;tag=[pid]-[call_number]
To: <sip:bob@example.com>
Call-ID: [call_id]
CSeq: 1 MESSAGE
Content-Type: text/plain
Content-Length: [len]

message [call_number]]]></send>
  <recv response="202"/>
</scenario>
"""

_SIPSAK_REQUEST = """\
MESSAGE sip:bob@example.com SIP/2.0
From: <sip:sipsak@example.com>;tag=1
To: <sip:bob@example.com>
Call-ID: 1@sipsak
CSeq: 1 MESSAGE
Max-Forwards: 70
Content-Type: text/plain
Content-Length: 17

hello from sipsak
"""


_SIPP_LOGIN = """\
<?xml version="1.0" encoding="UTF-8"?>
<scenario name="a REGISTER with a password">
  <send retrans="500"><![CDATA[
REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:bob@example.com>;tag=[pid]-[call_number]
To: <sip:bob@example.com>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:bob@[local_ip]:[local_port]>
Content-Length: 0

]]></send>
  <recv response="401" auth="true"/>
  <send retrans="500"><![CDATA[
REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:bob@example.com>;tag=[pid]-[call_number]
To: <sip:bob@example.com>
Call-ID: [call_id]
CSeq: 2 REGISTER
[authentication username=bob password=secret]
Contact: <sip:bob@[local_ip]:[local_port]>
Content-Length: 0

]]></send>
  <recv response="200"/>
</scenario>
"""


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """URL of an SQLite database."""
    return f"sqlite:///{tmp_path}/msilo.db"


@pytest.fixture(params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest, tmp_path: Path, storage: str) -> Iterator[Service]:
    """A server of its own for each test."""
    with Service(tmp_path, "--backend", str(request.param), storage=storage) as service:
        yield service
        assert "Traceback" not in service.log_text()


@pytest.mark.parametrize(("transport", "option"), [("udp", "u1"), ("tcp", "t1")])
def test_sipp(server: Service, storage: str, tmp_path: Path, transport: str, option: str) -> None:
    sipp = _tool("sipp", "sip-tester")
    scenario = tmp_path / "message.xml"
    scenario.write_text(_SIPP_SCENARIO)
    host, port = server.udp if transport == "udp" else server.tcp
    count = 200
    ran = subprocess.run(
        [sipp, f"{host}:{port}", "-sf", scenario, "-t", option, "-i", "127.0.0.1", "-m", str(count),
         "-r", "200", "-timeout", "20s", "-timeout_error", "-nostdin"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=40, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    bodies = {row["body"] for row in inbox(storage, "bob")}
    assert bodies == {b"message %d" % number for number in range(1, count + 1)}


def test_sipp_logs_in(storage: str, tmp_path: Path) -> None:
    sipp = _tool("sipp", "sip-tester")
    scenario = tmp_path / "login.xml"
    scenario.write_text(_SIPP_LOGIN)
    users = tmp_path / "users"
    added = run_msilo("user", "add", "sip:bob@example.com", "--file", str(users), stdin="secret\n")
    assert added.returncode == 0, added.stderr
    # It gives up where the first challenge is for another algorithm, which RFC 8760 section 2.4 tells it to pass over.
    config = '[auth]\nalgorithms = ["MD5"]\n'
    with Service(tmp_path, "--users", str(users), "--domain", "example.com", storage=storage, config=config) as service:
        host, port = service.udp
        ran = subprocess.run(
            [sipp, f"{host}:{port}", "-sf", scenario, "-i", "127.0.0.1", "-m", "20", "-r", "50", "-timeout", "20s",
             "-timeout_error", "-nostdin"],
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=40, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    bound = execute(storage, "SELECT contact FROM silo_location WHERE username = 'bob'")
    assert len(bound) == 1


def test_sipsak(server: Service, storage: str, tmp_path: Path) -> None:
    sipsak = _tool("sipsak", "sipsak")
    request = tmp_path / "message.txt"
    request.write_text(_SIPSAK_REQUEST)
    host, port = server.udp
    ran = subprocess.run(
        [sipsak, "-v", "-q", "^SIP/2.0 202 ", "-f", request, "-s", f"sip:bob@{host}:{port}"],
        stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=40, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # The file ends in one line end more than Content-Length says: it is no part of the body.
    assert [row["body"] for row in inbox(storage, "bob")] == [b"hello from sipsak"]


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing: install {package}")
    pytest.skip(f"install {package}")
