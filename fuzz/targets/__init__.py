"""What is fuzzed: one function for each layer, which takes any octets and fails only where the product does.

Documented errors are the product's answer and are swallowed; everything else that is raised is a find.
"""

from collections.abc import Callable
from typing import Final

from fuzz.targets.cpim import cpim
from fuzz.targets.engine import engine
from fuzz.targets.fields import fields
from fuzz.targets.framing import framing
from fuzz.targets.message import message
from fuzz.targets.uri import uri

__all__ = ["TARGETS"]

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "uri": uri,
    "fields": fields,
    "message": message,
    "framing": framing,
    "cpim": cpim,
    "engine": engine,
}
"""By name, as the command line has them, from the lowest layer to the highest."""
