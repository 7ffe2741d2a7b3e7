"""``python -m fuzz TARGET [libFuzzer options]``: fuzz one target from its seed corpus, with atheris."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Run until a find or until libFuzzer's options say stop."""
    # It has no types, and is not among the requirements of the tests: pip install atheris.
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["msilo_core"]):
        from fuzz.targets import TARGETS
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {{{'|'.join(TARGETS)}}} [libFuzzer options]")
    name = sys.argv[1]
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
