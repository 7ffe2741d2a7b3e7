"""The runner in the documentation runs."""

import re
import subprocess
import sys
from pathlib import Path

from tests.runners.peer import Peer

_PAGE = (Path(__file__).parents[2] / "docs" / "runner.md").read_text()


def test_runner() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
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
