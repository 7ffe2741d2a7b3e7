"""A table and columns that an operator of Kamailio has given other names."""

from pathlib import Path

import anyio
import pytest

from msilo_core.errors import LocalError, SchemaError
from msilo_core.parameters import SiloConfig
from msilo_storage import TableNames, create_schema, open_store
from msilo_storage.tables import OUR_COLUMNS, Sql
from tests.storage.values import HOSTILE_NAMES, append, bind, binding, message


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'msilo.db'}"
    postgres_url: str = request.getfixturevalue("postgres_url")
    return postgres_url


def test_without_parameters_they_are_kamailios() -> None:
    assert TableNames.of(SiloConfig()) == TableNames()


def test_each_parameter_names_its_column() -> None:
    config = SiloConfig(
        db_table="t", sc_mid="a", sc_from="b", sc_to="c", sc_uri_user="d", sc_uri_host="e", sc_inc_time="f",
        sc_exp_time="g", sc_snd_time="h", sc_ctype="i", sc_body="j", sc_stored_hdrs="k", sc_callid="l", sc_status="m",
    )  # fmt: skip
    assert TableNames.of(config) == TableNames(
        table="t", id="a", src_addr="b", dst_addr="c", username="d", domain="e", inc_time="f", exp_time="g",
        snd_time="h", ctype="i", body="j", extra_hdrs="k", callid="l", status="m",
    )  # fmt: skip


@pytest.mark.parametrize("column", OUR_COLUMNS)
def test_no_parameter_may_name_a_column_of_ours(column: str) -> None:
    with pytest.raises(LocalError, match=f"sc_body = '{column}' is the column of msilo itself too: give another name"):
        SiloConfig(sc_body=column)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("x" * 33, f"db_table = '{'x' * 33}' is too long: give up to 32 characters"),
        ("Version", "db_table = 'Version' is another table: give another name"),
        ("subscriber", "db_table = 'subscriber' is another table: give another name"),
    ],
)
def test_names_that_a_table_cannot_have(table: str, complaint: str) -> None:
    with pytest.raises(LocalError) as caught:
        TableNames(table)
    assert str(caught.value) == complaint


def test_statements_with_names() -> None:
    sql = Sql(TableNames(table='a"b', id="order"))
    assert sql("SELECT {id}, {cseq} FROM {silo} JOIN {silo_location}") == (
        'SELECT "order", "cseq" FROM "a""b" JOIN "a""b_location"'
    )
    assert Sql(TableNames("it's"))("{silo_text}") == "'it''s'"


async def test_two_tables_in_one_database_know_nothing_of_each_other(url: str) -> None:
    longest = TableNames("x" * 32)
    for names in (TableNames(), HOSTILE_NAMES, longest):
        await create_schema(url, names=names)
    async with open_store(url) as silo, open_store(url, names=longest) as other:
        await append(silo, message(1))
        await append(other, message(1), message(2))
        await other.bind([bind(binding())])
        assert len(await silo.list()) == 1
        assert len(await other.list()) == 2
        assert ((await silo.check()).bindings, (await other.check()).bindings) == (0, 1)


async def test_a_column_that_is_called_otherwise_is_missed(url: str) -> None:
    await create_schema(url)
    with pytest.raises(
        SchemaError, match=r"lacks column silo\.headers, which Kamailio has: name it by the parameter sc_… if"
    ):
        async with open_store(url, create=False, names=TableNames(extra_hdrs="headers")):
            pass


def test_a_table_of_another_name_and_kamailios_version(url: str) -> None:
    anyio.run(create_schema, url)

    async def open_other() -> None:
        async with open_store(url, create=False, names=TableNames("other")):
            pass

    with pytest.raises(SchemaError, match=r"lacks table other, table other_location: run "):
        anyio.run(open_other)
