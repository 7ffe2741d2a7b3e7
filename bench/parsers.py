"""Everything in msilo_core that reads what a peer wrote, found by itself: no worst case is left out.

A public function that takes one text, the texts of a header's lines, or octets, is called with them. What has another
signature must be named below, with a way to call it or a reason why it reads nothing; anything else is refused loudly.
"""

import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final, Literal, cast

import msgspec

import msilo_core
from msilo_core import fields, framing, head, headers, message, tel, uri
from msilo_core.framing import StreamFramer
from msilo_core.limits import Limits

__all__ = ["Parser", "accessors_of", "discover", "parser_of"]

MODULES: Final = (fields, uri, tel, head, headers, message, framing)
"""Where each public function must read what a peer wrote, or be known not to."""

Takes = Literal["text", "octets"]


class Parser(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be measured.

    Attributes:
        name: of the function, or of class and attribute.
        takes: text of a value, or octets of a message.
        make: what happens to the input before the measured part, as making the value that an attribute is of.
        work: the measured part.
    """

    name: str
    takes: Takes
    make: Callable[[Any], Any]
    work: Callable[[Any], object]


def discover() -> list[Parser]:
    """Return all parsers, and what can be asked of the values that they give.

    Raises:
        LookupError: there is one that nobody has said how to call.
    """
    public = [each for module in MODULES for each in _public(module)]
    # Whatever module a parser is in, the package exports it.
    public += [(name, value) for name, value in vars(msilo_core).items() if name.startswith(_PREFIXES)]
    functions = {name: value for name, value in public if inspect.isfunction(value)}
    classes = {value for _, value in public if _is_struct(value)}
    parsers = [parser for function in functions.values() if (parser := parser_of(function)) is not None]
    made: set[type] = set()
    names: set[str] = set()
    for parser in [each for each in parsers if each.name not in _NO_MAKERS]:
        for value_type in _made_by(functions[parser.name]):
            if value_type not in made and value_type in classes:
                made.add(value_type)
                parsers += [each for each in accessors_of(value_type, parser) if each.name not in names]
                names.update(each.name for each in parsers)
    for value_type in classes - made:
        if not any(issubclass(other, value_type) for other in made) and list(_attributes(value_type)):
            raise LookupError(f"no parser returns a {value_type.__name__}: say in {__name__} how one is made")
    return [*parsers, *_STREAMS]


def parser_of(function: Callable[..., object]) -> Parser | None:
    """Return a function as a parser, or None if it reads nothing that a peer wrote.

    Raises:
        LookupError: nobody has said how to call it.
    """
    name: str = function.__name__
    if name in _NO_PARSERS:
        return None
    if name in _CALLS:
        takes, call = _CALLS[name]
        return Parser(name=name, takes=takes, make=_same, work=call)
    required, has_limits = _parameters(function)
    if len(required) != 1 or required[0].annotation not in (str, bytes, Sequence[str]):
        raise LookupError(f"{name}: say in {__name__} how it is called")
    if required[0].annotation is bytes:
        return Parser(name=name, takes="octets", make=_same, work=function)
    work = partial(function, limits=_UNLIMITED) if has_limits else function
    make = _line if required[0].annotation == Sequence[str] else _same
    return Parser(name=name, takes="text", make=make, work=work)


def accessors_of(value_type: type, maker: Parser) -> list[Parser]:
    """Return the properties and methods of a type of values as parsers; `maker` makes the values.

    Raises:
        LookupError: nobody has said how to call one of them.
    """

    def make(data: Any) -> Any:
        return _first(maker.work(maker.make(data)), value_type)

    return [Parser(name=name, takes=maker.takes, make=make, work=work) for name, work in _attributes(value_type)]


_PREFIXES: Final = ("parse_", "split_", "check_", "tokenise")

_UNLIMITED: Final = Limits(uri_bytes_max=2**30, line_bytes_max=2**30, head_bytes_max=2**30)

_NO_PARSERS: Final = {
    "format_date",  # writes
    "encode_head",  # writes
}

_NO_MAKERS: Final = {"parse_message", "frame_datagram"}
"""What makes the same values as `tokenise`, but refuses most of the hostile ones."""


def _octet_by_octet(data: bytes) -> None:
    receive = StreamFramer().receive
    for octet in data:
        receive(_OCTETS[octet])


_OCTETS: Final = [bytes([octet]) for octet in range(256)]

_CALLS: Final[dict[str, tuple[Takes, Callable[[Any], object]]]] = {
    "split_head": ("octets", lambda data: head.split_head(data, 2**30)),
}
"""Functions of other signatures."""

_METHOD_CALLS: Final[dict[str, Callable[[Any], object]]] = {
    "Via.completed": lambda via: via.completed(";received=192.0.2.1;rport=5060"),
    "SipUri.equivalent": lambda value: value.equivalent(msgspec.structs.replace(value, params=f"{value.params};x")),
    "TelUri.equivalent": lambda value: value.equivalent(msgspec.structs.replace(value, params=f"{value.params};x")),
    "Headers.require_single": lambda value: value.require_single(*value.head.keys),
    "SipMessage.check_size": lambda value: value.check_size(len(value.body)),
}
"""Methods of other signatures."""


def _same(data: Any) -> Any:
    return data


def _line(text: str) -> list[str]:
    """The texts of all lines of a header that stands on one."""
    return [text]


_STREAMS: Final = (
    Parser(name="StreamFramer, whole", takes="octets", make=_same, work=lambda data: StreamFramer().receive(data)),
    Parser(name="StreamFramer, octet by octet", takes="octets", make=_same, work=_octet_by_octet),
)


def _public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name in module.__all__:
        yield name, getattr(module, name)


def _is_struct(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, msgspec.Struct)


def _parameters(function: Callable[..., object]) -> tuple[list[inspect.Parameter], bool]:
    """Return what must be given, and whether limits may be."""
    given = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    required = [each for each in given if each.default is inspect.Parameter.empty]
    return required, any(each.name == "limits" for each in given)


def _made_by(function: Callable[..., object]) -> Iterator[type]:
    """Yield the types that stand anywhere in what a function returns."""
    todo: list[Any] = [typing.get_type_hints(function)["return"]]
    while todo:
        each = todo.pop(0)
        if _is_struct(each):
            yield each
        todo += typing.get_args(each)


def _attributes(value_type: type) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """Yield name, with that of the class that it is defined in, and a way to ask for it, of each public attribute."""
    for name, value in inspect.getmembers(value_type):
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            assert value.fget is not None
            yield value.fget.__qualname__, value.fget
        elif inspect.isfunction(value):
            yield value.__qualname__, _method(value)


def _method(function: Callable[..., object]) -> Callable[[Any], object]:
    name: str = function.__qualname__
    if name in _METHOD_CALLS:
        return _METHOD_CALLS[name]
    required, has_limits = _parameters(function)
    match required:
        case []:
            return partial(function, limits=_UNLIMITED) if has_limits else function
        case [inspect.Parameter(name="key")]:
            return lambda made: function(made, _last_key(made))
        case [inspect.Parameter(name="name")]:
            return lambda made: function(made, "x")
        case _:
            raise LookupError(f"{name}: say in {__name__} how it is called")


def _last_key(made: Any) -> str:
    """Return the key of the last line, which is the hostile one."""
    lines: head.Head = made.head if isinstance(made, headers.Headers) else made
    return lines.keys[-1] if lines.keys else "x"


def _first(value: Any, value_type: type) -> Any:
    """Return the first value of a type in what a parser gave."""
    parts = cast("tuple[Any, ...]", value) if isinstance(value, tuple | list) else (value,)
    return next((part for part in parts if isinstance(part, value_type)), None)
