"""The command line ``msilo``.

What goes wrong because of the operator, a peer's address or the machine is told in one line on stderr that
names the remedy, and the exit status is 2. A traceback is a bug.
"""

import os
import sys
from typing import NoReturn

import click

from msilo_core import SipError, __version__
from msilo_runners.cli.config import config
from msilo_runners.cli.database import db
from msilo_runners.cli.serve import serve
from msilo_runners.cli.silo import silo
from msilo_runners.cli.talk import listen, send
from msilo_runners.cli.users import user
from msilo_runners.logs import printable

__all__ = ["main"]

OPERATOR_ERROR = 2
INTERRUPTED = 130
PIPE_BROKEN = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="msilo", message="%(prog)s %(version)s")
def msilo() -> None:
    """Offline messages for SIP: kept when their recipient is away, delivered when they come back."""


for command in (serve, send, listen, silo, user, db, config):
    msilo.add_command(command)


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    _open_what_was_closed()
    try:
        status = msilo.main(prog_name="msilo", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        status = _complain(f"no command was given: see '{error.ctx.command_path if error.ctx else 'msilo'} --help'")
    except click.ClickException as error:
        status = _complain(error.format_message())
    except SipError as error:
        status = _complain(str(error))
    except (click.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _forget_output()
        status = PIPE_BROKEN
    except OSError as error:
        # The machine: no room where our output goes, or no more files.
        status = _complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        try:
            sys.stdout.flush()
        except OSError:
            _forget_output()
    sys.exit(status)


def _open_what_was_closed() -> None:
    # Python has None for what its parent closed, and the next socket would become our standard error.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # it is for the whole process


def _forget_output() -> None:
    # What is still buffered must not be complained about at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> int:
    click.echo(f"msilo: error: {printable(' '.join(message.split()))}", err=True)
    return OPERATOR_ERROR
