"""Flows as values."""

import pytest

from msilo_core import Flow

HERE = ("127.0.0.1", 5060)


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (Flow("udp", HERE, ("192.0.2.1", 5060)), "udp:192.0.2.1:5060"),
        (Flow("tcp", HERE, ("2001:db8::1", 5061), 7), "tcp:[2001:db8::1]:5061"),
    ],
)
def test_as_text_for_a_log(flow: Flow, text: str) -> None:
    assert str(flow) == text
    assert flow.is_stream is (flow.transport == "tcp")
