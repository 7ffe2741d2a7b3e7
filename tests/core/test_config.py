"""What an engine is told: values that nobody can run with."""

from collections.abc import Callable

import pytest

from msilo_core import AuthConfig, Config, DeliveryConfig, Limits, LocalError, SiloConfig


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: SiloConfig(expire_time=0), "expire_time = 0 is out of range"),
        (lambda: SiloConfig(expire_time=2**32), "expire_time = 4294967296 is out of range: give 1 to 4294967295"),
        (lambda: SiloConfig(check_time=2**63), "check_time = 9223372036854775808 is out of range"),
        (lambda: SiloConfig(clean_period=2**63), "clean_period = 9223372036854775808 is out of range"),
        (lambda: AuthConfig(nonce_lifetime_s=2**32), "^nonce_lifetime = 4294967296 is out of range"),
        (lambda: Config(expires_max_s=2**32), "expires_max = 4294967296 is out of order"),
        (lambda: SiloConfig(add_date=2), "add_date = 2 is out of range"),
        (
            lambda: AuthConfig(algorithms=("md5",)),
            "'md5' is not one that this machine has: give SHA-256 or",
        ),
        (lambda: AuthConfig(algorithms=()), r"algorithms = \[\] is out of range"),
        (lambda: AuthConfig(algorithms=("MD5", "MD5")), "each once"),
        (lambda: AuthConfig(nonce_lifetime_s=0), "^nonce_lifetime = 0 is out of range"),
        (lambda: Config(expires_min_s=0), "expires_min = 0, .* is out of order"),
        (lambda: Config(expires_min_s=3601), "expires_min = 3601, expires_default = 3600, .* is out of order"),
        (lambda: Config(expires_max_s=3599), "expires_max = 3599 is out of order"),
        (lambda: Limits(finished_transactions_max=0), "finished_transactions_max = 0 is out of range: give 1 to"),
        (lambda: DeliveryConfig(lease_s=2), "lease = 2 is out of range: give 3 to"),
        (lambda: DeliveryConfig(retry_min_s=0), "retry_min = 0 is out of range: give 1 to"),
        (lambda: DeliveryConfig(retry_max_s=2**32), "retry_max = 4294967296 is out of range"),
        (lambda: DeliveryConfig(retry_min_s=901), "retry_min = 901, retry_max = 900 is out of order: give them asc"),
        (lambda: DeliveryConfig(retry_look_s=0), "retry_look = 0 is out of range: give 1 to"),
        (lambda: DeliveryConfig(window=0), "window = 0 is out of range: give 1 to 256"),
        (lambda: DeliveryConfig(window=257), "window = 257 is out of range: give 1 to 256"),
    ],
)
def test_out_of_range(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(LocalError, match=complaint):
        make()


def test_at_the_edge() -> None:
    assert SiloConfig(expire_time=2**32 - 1).expire_time == 2**32 - 1
    assert Config(expires_min_s=1, expires_default_s=1, expires_max_s=1).expires_max_s == 1
    assert DeliveryConfig(lease_s=3, retry_min_s=1, retry_max_s=1, retry_look_s=1).retry_max_s == 1
    assert DeliveryConfig(window=256).window == 256
    assert AuthConfig(algorithms=("MD5",), nonce_lifetime_s=1).algorithms == ("MD5",)
