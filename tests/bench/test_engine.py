"""The benchmark of the core alone runs; its figures mean nothing here."""

from tests.bench.command import bench


def test_engine() -> None:
    line = bench("engine", "--count", "210", "--users", "20", "--batch", "16", "--repeats", "2")
    assert (line["count"], line["batch"]) == (210, 16)
    for kind in ("store", "register", "deliver"):
        assert line[kind]["engine_us"] > 0
        assert line[kind]["storage_us"] > 0
