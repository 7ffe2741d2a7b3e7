"""The needed fields of a message (bench/needed.py) by msilo and by two parsers from PyPI, with the same values.

They do not do the same work, and what differs is in the peers' favour:

- msilo checks all of these against the grammar, refuses control characters and bad names in every line, a header that
  may stand there only once and does twice, a body that is too short, a CSeq whose method is not the request's, and
  looks at Max-Forwards and at the lengths of all.
- sipmessage has strict patterns for URIs, addresses, Via and CSeq. It checks neither header names nor control
  characters nor Call-ID nor Content-Length against the body (cutting it is done here), takes the first of a header
  that stands there twice, and any digits of Unicode as digits.
- sippy splits at separators and checks that it finds them, and that the body is long enough: any text is a host, a
  user, a tag or a branch. It works on text, and its Content-Length counts characters instead of octets.

The peers are no dependency of this project. sippy installs its own tests as the top-level package ``tests``, and wants
packages that parsing does not need; so they are installed without dependencies, in a folder that is on the path while
they are imported.
"""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import click
import msgspec

from bench import needed
from bench.needed import Needed
from msilo_core import __version__

__all__ = ["PACKAGES", "Subject", "comparable", "load_peers", "ours", "pip_command"]

PACKAGES: Final = ("sipmessage==0.7.1", "sippy==2.5.0", "pycryptodome", "ElPeriodic")
"""All that ``sipmessage`` and ``sippy.SipRequest`` need to be imported, the two versions that goals are set for."""


class Subject(msgspec.Struct, frozen=True):
    """A parser that is measured: octets to the needed fields, of a MESSAGE and of a REGISTER."""

    name: str
    version: str
    parse_message: Callable[[bytes], Needed]
    parse_register: Callable[[bytes], Needed]


def comparable(values: Needed) -> Needed:
    """Return values that are equal for all subjects: octets, an empty text for what is not there, no quotes."""
    return tuple(_comparable(value) for value in values)


def pip_command(folder: Path) -> list[str]:
    """Return the command that fills a folder with the peers."""
    return [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder), *PACKAGES]


def ours() -> Subject:
    """Return msilo's own parser."""
    return Subject("msilo", __version__, needed.message, needed.register)


def load_peers(folder: Path | None) -> list[Subject]:
    """Return the peers.

    Args:
        folder: where :func:`pip_command` put them; if None, a folder of our own, filled when it is missing.

    Raises:
        click.ClickException: they cannot be installed, or are not there.
    """
    if folder is None:
        folder = _cached()
    # Last, so that nothing in it stands before anything of ours; and only as long as they are imported, since a package
    # `tests` with an `__init__.py`, such as sippy's, comes before ours without one wherever it is on the path.
    sys.path.append(str(folder))
    try:
        return [_sipmessage(), _sippy()]
    except (ImportError, importlib.metadata.PackageNotFoundError) as error:
        raise click.ClickException(f"no peers in {folder} ({error}): {_advice(folder)}") from None
    finally:
        sys.path.remove(str(folder))


def _cached() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msilo-bench"
    folder = root / f"peers-{sys.implementation.cache_tag}"
    if folder.exists():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    click.echo(f"installing the peers into {folder}", err=True)
    # Renamed when it is complete: half an installation must not look like one.
    with tempfile.TemporaryDirectory(dir=root) as work:
        filled = Path(work) / "peers"
        ran = subprocess.run(pip_command(filled), stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if ran.returncode:
            raise click.ClickException(f"pip could not install the peers: {_advice(Path('DIR'))}")
        filled.rename(folder)
    return folder


def _advice(folder: Path) -> str:
    return f"run '{' '.join(pip_command(folder))}' and give --peers {folder}, or --no-peers"


def _comparable(value: Any) -> object:
    if value is None:
        return b""
    if isinstance(value, str):
        return value.strip('"').encode()
    if isinstance(value, tuple | list):
        return comparable(cast("Needed", value))
    return value


# -- The peers ---------------------------------------------------------------------------------------------------------


def _sipmessage() -> Subject:
    parse: Callable[[bytes], Any] = importlib.import_module("sipmessage").Message.parse

    def parse_a_message(data: bytes) -> Needed:
        request = parse(data)
        uri, sender, recipient, cseq = request.uri, request.from_address, request.to_address, request.cseq
        from_uri, to_uri = sender.uri, recipient.uri
        return (
            request.method, uri.user, uri.host, uri.port, request.via[0].parameters.get("branch"), request.call_id,
            cseq.sequence, cseq.method,
            from_uri.user, from_uri.host, from_uri.port, sender.parameters.get("tag"),
            to_uri.user, to_uri.host, to_uri.port, recipient.parameters.get("tag"),
            # As received: taking it apart is not needed.
            request.headers.get("Content-Type"), request.body[: request.content_length],
        )  # fmt: skip

    def parse_a_register(data: bytes) -> Needed:
        request = parse(data)
        uri, sender, recipient, cseq = request.uri, request.from_address, request.to_address, request.cseq
        from_uri, to_uri = sender.uri, recipient.uri
        return (
            request.method, uri.user, uri.host, uri.port, request.via[0].parameters.get("branch"), request.call_id,
            cseq.sequence, cseq.method,
            from_uri.user, from_uri.host, from_uri.port, sender.parameters.get("tag"),
            to_uri.user, to_uri.host, to_uri.port, recipient.parameters.get("tag"),
            request.expires,
            [
                (contact.uri.user, contact.uri.host, contact.uri.port, contact.parameters.get("+sip.instance"))
                for contact in request.contact
            ],
            request.body[: request.content_length],
        )  # fmt: skip

    return Subject("sipmessage", importlib.metadata.version("sipmessage"), parse_a_message, parse_a_register)


def _sippy() -> Subject:
    parse: Callable[[str], Any] = importlib.import_module("sippy.SipRequest").SipRequest

    def parse_a_message(data: bytes) -> Needed:
        request = parse(data.decode())
        uri, sender, recipient = request.ruri, request.getHFBody("from"), request.getHFBody("to")
        cseq, body = request.getHFBody("cseq"), request.body
        from_uri, to_uri = sender.address.url, recipient.address.url
        return (
            request.method, uri.username, uri.host, uri.port, request.getHFBody("via").getBranch(),
            request.getHFBody("call-id").body, cseq.cseq, cseq.method,
            from_uri.username, from_uri.host, from_uri.port, sender.getTag(),
            to_uri.username, to_uri.host, to_uri.port, recipient.getTag(),
            body.mtype.body, body.content,
        )  # fmt: skip

    def parse_a_register(data: bytes) -> Needed:
        request = parse(data.decode())
        uri, sender, recipient = request.ruri, request.getHFBody("from"), request.getHFBody("to")
        cseq, body = request.getHFBody("cseq"), request.body
        from_uri, to_uri = sender.address.url, recipient.address.url
        addresses = [contact.address for contact in request.getHFBodys("contact")]
        return (
            request.method, uri.username, uri.host, uri.port, request.getHFBody("via").getBranch(),
            request.getHFBody("call-id").body, cseq.cseq, cseq.method,
            from_uri.username, from_uri.host, from_uri.port, sender.getTag(),
            to_uri.username, to_uri.host, to_uri.port, recipient.getTag(),
            request.getHFBody("expires").number,
            [
                (address.url.username, address.url.host, address.url.port, address.params.get("+sip.instance"))
                for address in addresses
            ],
            body if body is None else body.content,
        )  # fmt: skip

    return Subject("sippy", importlib.metadata.version("sippy"), parse_a_message, parse_a_register)
