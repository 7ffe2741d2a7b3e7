"""The command line of the benchmarks."""

import click

from bench.compare import compare
from bench.engine import engine
from bench.instructions import instructions
from bench.parse import parse
from bench.scale import growth, memory
from bench.traffic import deliver, mixed, register, store


@click.group()
def main() -> None:
    """Measure msilo, or a server like it. Each run prints one JSON line on stdout, progress goes to stderr."""


main.add_command(compare)
main.add_command(engine)
main.add_command(growth)
main.add_command(instructions)
main.add_command(memory)
main.add_command(parse)
main.add_command(store)
main.add_command(register)
main.add_command(deliver)
main.add_command(mixed)

if __name__ == "__main__":
    main(prog_name="python -m bench")
