"""``python -m fuzz TARGET [libFuzzer options]``: fuzz one target from its seed corpus, with atheris.

``python -m fuzz TARGET FILE…`` runs it once on each file instead, as to see a find again; that needs no atheris.
"""

import random
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from fuzz.stories import alter

HERE = Path(__file__).parent


def main() -> None:
    """Run until a find or until libFuzzer's options say stop."""
    name, *rest = sys.argv[1:] or [""]
    files = [Path(argument) for argument in rest if Path(argument).is_file()]
    if files:
        _replay(name, files)
        return
    # It has no types, and is not among the requirements of the tests: pip install atheris.
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["msilo_core"]):
        from fuzz.targets import TARGETS
    if name not in TARGETS:
        sys.exit(f"usage: python -m fuzz {{{'|'.join(TARGETS)}}} [libFuzzer options | FILE...]")
    options = [f"-dict={HERE / 'sip.dict'}", *rest, str(HERE / "corpus" / name)]
    hooks = {"custom_mutator": partial(_alter_story, atheris)} if name == "engine" else {}
    atheris.Setup([sys.argv[0], *options], TARGETS[name], **hooks)
    atheris.Fuzz()


def _alter_story(atheris: Any, data: bytes, size_max: int, seed: int) -> bytes:
    """Let libFuzzer change octets, or change records."""
    source = random.Random(seed)
    if source.random() < 0.5:
        return alter(data, source)[:size_max]
    # It is another function once fuzzing has begun.
    octets: bytes = atheris.Mutate(data, size_max)
    return octets


def _replay(name: str, files: list[Path]) -> None:
    from fuzz.targets import TARGETS

    for file in files:
        TARGETS[name](file.read_bytes())


if __name__ == "__main__":
    main()
