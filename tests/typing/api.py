"""What the public names are to a type checker; read by mypy and pyright, never run."""

import random
from typing import assert_never, assert_type

from msilo_core import (
    Action,
    Answered,
    AnyUri,
    Arrived,
    Bind,
    CloseFlow,
    Comment,
    Config,
    Contact,
    Dropped,
    Dump,
    Engine,
    Expire,
    FeatureNumber,
    FeatureString,
    FeatureToken,
    FindUser,
    Flow,
    HandOver,
    Hop,
    LookUp,
    MediaRange,
    Message,
    Moment,
    Product,
    Remind,
    Renew,
    Request,
    Response,
    Retry,
    Send,
    Settle,
    Statistics,
    Store,
    Unbind,
    UserAgent,
    parse_message,
)
from msilo_runners import Server, ServerConfig
from msilo_storage import Entry, Storage, Sweep, open_store


def engine(flow: Flow, now: Moment) -> None:
    machine = Engine(Config(), entropy=random.Random(1), now=now)
    assert_type(machine.receive_datagram(b"", flow, now), list[Action])
    assert_type(machine.receive_stream(b"x", flow, now), list[Action])
    assert_type(machine.next_timeout(), int | None)
    assert_type(machine.statistics, Statistics)
    assert_type(parse_message(b""), Request | Response)


def headers(request: Request, contact: Contact) -> None:
    assert_type(request.routes, tuple[Hop, ...])
    assert_type(request.accept, tuple[MediaRange, ...] | None)
    assert_type(request.user_agent, tuple[Product | Comment, ...])
    assert_type(request.from_.any_uri, AnyUri)
    assert_type(contact.features, dict[str, tuple[FeatureToken | FeatureNumber | FeatureString, ...]])


def agent(flow: Flow, now: Moment) -> None:
    number, actions = UserAgent(now=now).message(flow, from_uri="sip:a@x", to_uri="sip:b@y", body=b"", now=now)
    assert_type(number, int)
    assert_type(actions, list[Action])


def every_action_can_be_told_apart(action: Action) -> Flow | int | None:
    match action:
        case Send() | CloseFlow() | HandOver() | Dropped():
            return action.flow
        case LookUp() | Bind() | Unbind() | Store() | FindUser():
            return action.token
        case Dump() | Renew() | Settle() | Expire() | Remind() | Retry():
            return action.token
        case Answered():
            return action.number
        case Arrived():
            return None
        case _:
            assert_never(action)


async def server() -> None:
    async with Server(ServerConfig(storage="memory:")) as running:
        assert_type(running.addresses, list[str])
        assert_type(running.statistics.stored_messages, int)
        assert_type(await running.store.list(owner="sip:bob@example.com"), list[Message])
        assert_type(await running.store.find(1), Entry | None)
        assert_type(await running.store.requeue([1, 2]), Sweep)
        assert_type(await running.store.purge(owner="sip:bob@example.com", received_before_s=1_800_000_000), Sweep)
        assert_type((await running.store.stats()).dead_by_status, dict[int, int])


async def store() -> None:
    assert_type(open_store("memory:"), Storage)
