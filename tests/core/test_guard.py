"""Who is trusted."""

import random

import pytest

from msilo_core import Config, Flow, Limits, LocalError
from msilo_core.entropy import Entropy
from msilo_core.guard import Guard
from tests.core.world import World

HERE = ("192.0.2.9", 5060)


def guard(*networks: str) -> Guard:
    return Guard(Config(trusted=networks), Limits(), Entropy(random.Random(1)), World().now)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("10.255.0.1", True), ("11.0.0.1", False), ("2001:db8::7", True), ("2001:db9::7", False),
        ("::ffff:10.0.0.1", True), ("::ffff:11.0.0.1", False), ("not an address", False), ("fe80::1%eth0", False),
    ],
)  # fmt: skip
def test_networks(host: str, trusted: bool) -> None:
    door = guard("10.0.0.0/8", "2001:db8::/32")
    for _ in range(2):
        assert door.is_trusted(Flow("udp", HERE, (host, 5060))) is trusted


def test_no_network_trusts_nobody() -> None:
    assert not guard().is_trusted(Flow("udp", HERE, ("127.0.0.1", 5060)))


@pytest.mark.parametrize("network", ["10.0.0.1/8", "x", ""])
def test_network_that_is_none(network: str) -> None:
    with pytest.raises(LocalError, match=r"give a network such as 10\.0\.0\.0/8"):
        guard(network)


def test_what_is_remembered_of_hosts_is_bounded() -> None:
    door = guard("10.0.0.0/8")
    for number in range(10_002):
        door.is_trusted(Flow("udp", HERE, (f"11.0.{number // 250}.{number % 250}", 5060)))
    assert len(door._trust) == 2  # pyright: ignore[reportPrivateUsage]
    assert door.is_trusted(Flow("udp", HERE, ("10.0.0.1", 5060)))
