"""``msilo send`` and ``msilo listen``: a phone for the command line."""

import logging
import signal
import sys

import anyio
import click

from msilo_core import Account, Answered, Arrived, Request, SipUri, parse_uri
from msilo_runners.addresses import TransportAddress, parse_transport_address
from msilo_runners.cli.options import password_option, username_option
from msilo_runners.cli.records import body_fields, print_json
from msilo_runners.client import Client, open_client
from msilo_runners.driver import read_clock
from msilo_runners.logs import log_to_stderr, printable
from msilo_runners.loop import run

__all__ = ["listen", "send"]

logger = logging.getLogger(__name__)

SERVER = "udp://127.0.0.1:5060"


@click.command()
@click.option("--from", "sender", required=True, metavar="SIP-URI", help="Who sends.")
@click.option("--to", "recipient", required=True, metavar="SIP-URI", help="Who is to get it.")
@click.option("--server", default=SERVER, show_default=True, metavar="URI", help="Where it is sent.")
@click.option("--content-type", default="text/plain;charset=UTF-8", show_default=True, metavar="TYPE")
@click.option("--expires", type=click.IntRange(0, 2**32 - 1), metavar="SECONDS", help="Its lifetime.")
@password_option
@username_option
@click.argument("text")
def send(
    sender: str,
    recipient: str,
    server: str,
    content_type: str,
    expires: int | None,
    password: str | None,
    username: str | None,
    text: str,
) -> int:
    """Send TEXT, or what stdin holds if it is -, and print the status line of the answer.

    The exit status is 0 if the answer is a success (2xx), else 1.
    """
    body = sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape")
    where = parse_transport_address(server, names_allowed=True)
    account = _account(sender, username, password)
    answer = run(_send, where, account, sender, recipient, content_type, expires, body)
    if not answer.received:
        what = "no answer in time" if answer.status == 408 else "the request could not be sent"
        click.echo(f"msilo: {where}: {what}", err=True)
        return 1
    click.echo(printable(f"SIP/2.0 {answer.status} {answer.reason}"))
    return 0 if answer.status < 300 else 1


@click.command()
@click.argument("aor", metavar="SIP-URI")
@click.option("--server", default=SERVER, show_default=True, metavar="URI", help="Where to register.")
@password_option
@username_option
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message.")
def listen(aor: str, server: str, password: str | None, username: str | None, count: int | None, as_json: bool) -> int:
    """Register as SIP-URI and print the messages that arrive, one line each.

    Ends after --count messages, or when interrupted. The exit status is 1 if the server does not let us
    register.
    """
    log_to_stderr()
    where = parse_transport_address(server, names_allowed=True)
    return run(_listen, where, _account(aor, username, password), aor, count, as_json)


def _account(uri: str, username: str | None, password: str | None) -> Account | None:
    if password is None:
        return None
    return Account(username if username is not None else parse_uri(uri).aor().username, password)


async def _send(
    server: TransportAddress,
    account: Account | None,
    sender: str,
    recipient: str,
    content_type: str,
    expires_s: int | None,
    body: bytes,
) -> Answered:
    async with open_client(server, account) as client:
        number, actions = client.agent.message(
            client.flow,
            from_uri=sender,
            to_uri=recipient,
            body=body,
            content_type=content_type,
            expires_s=expires_s,
            now=read_clock(),
        )
        client.perform(actions)
        async for seen in client.observations:
            if isinstance(seen, Answered) and seen.number == number:
                return seen
    raise AssertionError("the agent answers each request")


async def _listen(server: TransportAddress, account: Account | None, aor: str, count: int | None, as_json: bool) -> int:
    uri = parse_uri(aor)
    uri.aor()  # says so if it has no user part
    async with open_client(server, account) as client:
        contact = _contact(client, uri)
        _, actions = client.agent.register(client.flow, aor_uri=aor, contact_uri=contact, now=read_clock())
        client.perform(actions)
        status = 0
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:

                async def end_on_signal() -> None:
                    async for _ in signals:
                        tasks.cancel_scope.cancel()

                tasks.start_soon(end_on_signal)
                status = await _print_arrivals(client, count, as_json)
                tasks.cancel_scope.cancel()
        await client.leave()
        # A message that was answered 200 is ours to show, also when it came while we were leaving.
        while client.observations.statistics().current_buffer_used:
            seen = client.observations.receive_nowait()
            if isinstance(seen, Arrived):
                _print(seen.request, as_json)
        return status


async def _print_arrivals(client: Client, count: int | None, as_json: bool) -> int:
    """Print until `count` is reached; return the exit status."""
    was_registered = False
    printed = 0
    async for seen in client.observations:
        if isinstance(seen, Arrived):
            _print(seen.request, as_json)
            printed += 1
            if printed == count:
                break
        elif seen.status < 300:
            if not was_registered:
                logger.info("registered until interrupted")
            was_registered = True
        else:
            why = f"{seen.status} {seen.reason}" if seen.received else "no answer"
            logger.error("not registered: %s", why)
            if not was_registered:
                return 1
    return 0


def _contact(client: Client, aor: SipUri) -> str:
    host, port = client.flow.local
    literal = f"[{host}]" if ":" in host else host
    parameter = ";transport=tcp" if client.flow.is_stream else ""
    return f"sip:{aor.user}@{literal}:{port}{parameter}"


def _print(request: Request, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "from": request.from_.uri_text,
                "to": request.to.uri_text,
                "content_type": request.content_type,
                **body_fields(request.body),
                "date": request.get("date"),
            }
        )
    else:
        text = request.body.decode("utf-8", "replace")
        click.echo(f"{printable(request.from_.uri_text)}: {printable(text)}")
    sys.stdout.flush()
