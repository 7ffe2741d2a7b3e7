"""The torture messages of RFC 4475 and RFC 5118, octet for octet, out of the archive in each RFC's appendix.

The RFCs are not part of the project. The environment variable ``MSILO_RFC`` names a folder that holds ``rfc4475.txt``
and ``rfc5118.txt``, as https://www.rfc-editor.org/rfc/rfc4475.txt has them; without it that is ``../shared/rfc``
beside the checkout.
"""

import base64
import functools
import io
import os
import re
import tarfile
from pathlib import Path

import pytest

__all__ = ["covered_names", "messages", "printed_names"]

_TESTS = Path(__file__).parent
_SHARED = _TESTS.parents[2] / "shared"

# As the Perl script in both appendices has it: a line of one word is of the archive, headings of pages have several.
_ARCHIVE_LINE = re.compile(rb"^[ ]*([A-Za-z0-9+/=]+)[ ]*$", re.MULTILINE)


@functools.cache
def messages(rfc: int) -> dict[str, bytes]:
    """Return the files of an RFC's archive by name, without ``.dat``.

    Skips the test where the RFC is not at hand. It fails where somebody says it is: by ``MSILO_RFC``, or in CI by a
    shared folder that has no such file.
    """
    # The script quotes both marks: the archive is behind the last one.
    block = _text(rfc).rpartition(b"-- BEGIN MESSAGE ARCHIVE --")[2].partition(b"-- END MESSAGE ARCHIVE --")[0]
    packed = base64.b64decode(b"".join(_ARCHIVE_LINE.findall(block)), validate=True)
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive:
            # None for a folder.
            if (file := archive.extractfile(member)) is not None:
                found[Path(member.name).name.removesuffix(".dat")] = file.read()
    return found


def printed_names(rfc: int) -> list[str]:
    """Return the names of the messages that an RFC's sections print, in their order."""
    return [name.decode() for name in re.findall(rb"Message Details ?: (\S+)", _text(rfc))]


def covered_names(rfc: int) -> set[str]:
    """Return what the tests of an RFC's catalogue are named after: ``test_wsinv`` is of ``wsinv``."""
    sources = "\n".join(path.read_text() for path in sorted(_TESTS.glob(f"test_rfc{rfc}*.py")))
    return set(re.findall(r"^def test_(\w+)\(", sources, re.MULTILINE))


def _text(rfc: int) -> bytes:
    named = os.environ.get("MSILO_RFC")
    path = (Path(named) if named else _SHARED / "rfc") / f"rfc{rfc}.txt"
    if path.is_file():
        return path.read_bytes()
    missing = f"there is no {path}: set MSILO_RFC to a folder that holds rfc{rfc}.txt"
    if named or (os.environ.get("CI") == "true" and _SHARED.is_dir()):
        pytest.fail(missing)
    pytest.skip(missing)
