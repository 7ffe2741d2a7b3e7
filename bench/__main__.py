"""The command line of the benchmarks."""

import click

from bench.instructions import instructions
from bench.parse import parse
from bench.store import store


@click.group()
def main() -> None:
    """Measure msilo. Each command prints one JSON line on stdout."""


main.add_command(instructions)
main.add_command(parse)
main.add_command(store)

if __name__ == "__main__":
    main(prog_name="python -m bench")
