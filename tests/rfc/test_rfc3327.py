"""RFC 3327: Path."""

import pytest

from msilo_core import Config
from tests.core.world import World, header, message, register, status_of, udp

EDGE = ("127.0.0.1", 5080)
PATH = "Path: <sip:127.0.0.1:5080;lr>,<sip:p2.example.com;lr>\r\nPath: <sip:p3.example.com;lr;ob>\r\n"
ROUTE = "<sip:127.0.0.1:5080;lr>, <sip:p2.example.com;lr>, <sip:p3.example.com;lr;ob>"


@pytest.mark.parametrize("support", ["Supported: path\r\n", "k: gruu,\r\n PATH\r\n", "Require: path\r\n"])
@pytest.mark.parametrize("mode", ["strict", "lazy"])
def test_path_is_kept_and_returned_to_whoever_supports_it(support: str, mode: str) -> None:
    """Section 5.3.

    "The registrar then stores this path vector in association with that contact and the address-of-record ... The
    registrar copies the Path header field values into a Path header field in the successful (200 class) REGISTER
    response."
    """
    world = World(Config(path_mode="strict" if mode == "strict" else "lazy"))
    (ok,) = world.datagram(register(headers=PATH + support, sender=EDGE), EDGE)
    assert (status_of(ok), header(ok, "Path")) == (200, ROUTE)
    (relayed,) = world.datagram(message())
    # Section 5.4: "the home proxy also copies the stored path vector ... into the Route header field".
    assert header(relayed, "Route") == ROUTE
    assert relayed.startswith(b"MESSAGE sip:bob@127.0.0.1:5072 ")
    assert world.sent[-1].flow == udp(EDGE)


@pytest.mark.parametrize("support", ["", "Supported: gruu, xpath\r\n"])
def test_strict_policy_for_whoever_does_not_support_it(support: str) -> None:
    """Section 5.3.

    "The recommended policy is for the registrar to reject the request with a 420 "Bad Extension" response indicating
    the Path extension."
    """
    world = World()
    (refused,) = world.datagram(register(headers=PATH + support, sender=EDGE), EDGE)
    assert (status_of(refused), header(refused, "Unsupported")) == (420, "path")
    assert status_of(world.datagram(message())[0]) == 202


def test_lazy_policy_for_whoever_does_not_support_it() -> None:
    """Section 5.3: "some registrars MAY choose to support the extension in the absence of a Supported header field"."""
    world = World(Config(path_mode="lazy"))
    (ok,) = world.datagram(register(headers=PATH, sender=EDGE), EDGE)
    assert (status_of(ok), header(ok, "Path")) == (200, "")
    (relayed,) = world.datagram(message())
    assert header(relayed, "Route") == ROUTE


def test_contact_that_is_refreshed_without_a_path_has_none() -> None:
    world = World()
    world.datagram(register(headers=f"{PATH}Supported: path\r\n", sender=EDGE), EDGE)
    world.datagram(register(cseq=2))
    (relayed,) = world.datagram(message())
    assert header(relayed, "Route") == ""


def test_path_alone_asks_for_nothing() -> None:
    (ok,) = World().datagram(register(contact="", headers=f"{PATH}Supported: path\r\n", sender=EDGE), EDGE)
    assert status_of(ok) == 200
