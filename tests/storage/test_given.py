"""Rows that are parameters of a statement in PostgreSQL."""

import asyncpg
import pytest

from msilo_storage.postgres_given import Given

GIVEN = Given({"name": "text", "place": "text", "number": "int"}, often_shared=("number", "place"))


def test_what_all_rows_share_is_sent_once() -> None:
    assert GIVEN.parameters(["a", "b"], ["x", "x"], [1, 2]) == [["a", "b"], (), [1, 2], None, "x"]


def test_the_next_parameter_is_behind_those_of_the_rows() -> None:
    assert f"${GIVEN.next - 1}" in GIVEN.rows
    assert f"${GIVEN.next}" not in GIVEN.rows


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "rows",
    [
        [("a", "x", 1)],
        [("a", "x", 1), ("a", "x", 1)],
        [("a", "x", 1), ("b", "x", 2)],
        [("a", "x", None), ("b", None, None), ("c", "y", None)],
    ],
)
async def test_rows_come_out_as_they_went_in(
    rows: list[tuple[str, str | None, int | None]], postgres_server_url: str
) -> None:
    connection = await asyncpg.connect(postgres_server_url)
    try:
        statement = f"SELECT name, place, number, n, ${GIVEN.next}::int FROM {GIVEN.rows} ORDER BY n"
        found = await connection.fetch(statement, *GIVEN.parameters(*zip(*rows, strict=True)), 7)
    finally:
        await connection.close()
    assert [tuple(row) for row in found] == [(*row, n, 7) for n, row in enumerate(rows, start=1)]
