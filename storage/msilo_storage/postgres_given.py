"""Rows that are parameters of a statement: a batch goes to PostgreSQL in one array for each column.

The driver looks at every value of an array, several times where it is a number. So a value that all rows of a batch
share, as they often do, goes once, in a parameter of its own, and its column is empty.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

__all__ = ["Given"]


class Given:
    """The rows of one kind of statement.

    Args:
        columns: their types by their names, in the order of the parameters.
        often_shared: those of them whose value may be sent once. At least one is not, or nobody knew how many rows
            there are.

    Attributes:
        rows: what stands in the FROM of the statement: a table ``given`` with the columns, and ``n``, which numbers the
            rows from 1 on.
        next: number of the first parameter behind those of the rows.
    """

    def __init__(self, columns: Mapping[str, str], often_shared: Collection[str] = ()) -> None:
        names = list(columns)
        self._places: Final = [names.index(name) for name in often_shared]
        first = len(names) + 1
        value_of = {name: f"coalesce({name}, ${n}) AS {name}" for n, name in enumerate(often_shared, start=first)}
        arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(columns.values(), start=1))
        self.rows: Final = (
            f"(SELECT {', '.join(value_of.get(name, name) for name in names)}, n"
            f" FROM unnest({arrays}) WITH ORDINALITY AS given ({', '.join(names)}, n)) AS given"
        )
        self.next: Final = first + len(self._places)

    def parameters(self, *columns: Sequence[Any]) -> list[Any]:
        """Return the parameters for the values of each column, in the order of the rows."""
        arrays: list[Any] = [*columns]
        shared: list[Any] = []
        for place in self._places:
            values = arrays[place]
            is_shared = values.count(values[0]) == len(values)
            shared.append(values[0] if is_shared else None)
            if is_shared:
                arrays[place] = ()
        return arrays + shared
