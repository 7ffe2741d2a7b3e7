"""The statements of a ``kamailio.cfg`` that say something of offline messages, and the names of all others.

Outside of routes a file has assignments, ``modparam``, ``loadmodule`` and the like. Line ends mean nothing to Kamailio,
but everybody writes one statement on a line: what is not looked into ends with its line.
"""

import itertools
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from msilo_runners.errors import SettingsError
from msilo_runners.kamailio.preprocessor import Place
from msilo_runners.kamailio.tokens import Kind, Token

__all__ = ["Address", "Call", "Named", "Parameter", "Statements", "parse_statements", "spell"]


class Named(msgspec.Struct, frozen=True):
    """Something of which the name is enough.

    Attributes:
        name: it, or what was written if it is not understood.
        place: where it stands.
    """

    name: str
    place: Place


class Parameter(msgspec.Struct, frozen=True):
    """A ``modparam``.

    Attributes:
        modules: what names the modules, a POSIX extended expression.
        name: of the parameter.
        value: a text or a number.
        place: where it stands.
        evaluated: whether pseudo-variables in it are evaluated at the start (``modparamx``).
        unknown: why `value` is not what Kamailio has; empty: it is.
    """

    modules: str
    name: str
    value: str | int
    place: Place
    evaluated: bool
    unknown: str


class Address(msgspec.Struct, frozen=True):
    """One address of ``listen`` or ``socket``, or one host of ``alias``.

    Attributes:
        text: as it was written.
        place: where it stands.
        transport: such as ``udp``; empty: not said.
        host: an IP address, a name, or an interface, without brackets; empty: `text` is not understood.
        port: 0: not said.
        more: what is said beside it, such as ``advertise 192.0.2.1:5060``; empty: nothing.
        unknown: why `text` is not what Kamailio has; empty: it is.
    """

    text: str
    place: Place
    transport: str = ""
    host: str = ""
    port: int = 0
    more: str = ""
    unknown: str = ""


class Call(msgspec.Struct, frozen=True):
    """A function of msilo that a route calls."""

    function: str
    place: Place


class Statements:
    """What a file says.

    Attributes:
        parameters: of modules, in order.
        listen: addresses, in order.
        aliases: hosts, in order.
        numbers: of the core: the value of each that is looked at, by name.
        modules: that are loaded.
        core: parameters of the core that are not looked at.
        routes: their heads, such as ``failure_route[1]``.
        calls: of msilo's functions.
        strange: what was not understood.
    """

    def __init__(self) -> None:
        self.parameters: list[Parameter] = []
        self.listen: list[Address] = []
        self.aliases: list[Address] = []
        self.numbers: dict[str, tuple[int, Place]] = {}
        self.modules: list[Named] = []
        self.core: list[Named] = []
        self.routes: list[Named] = []
        self.calls: list[Call] = []
        self.strange: list[Named] = []


def parse_statements(tokens: Iterable[Token]) -> Statements:
    """Read the statements of a file.

    Raises:
        SettingsError: a statement that is looked into cannot be read; the text has file and line.
    """
    parser = _Parser(tuple(tokens))
    parser.run()
    return parser.statements


def spell(tokens: Iterable[Token]) -> str:
    """Return tokens as they might have been written, for people."""
    return "".join(
        [
            ("" if token.glued else " ") + (f'"{token.text}"' if token.kind is Kind.STRING else token.text)
            for token in tokens
        ]
    ).strip()


_ROUTES: Final = frozenset({
    "route", "request_route", "reply_route", "onreply_route", "failure_route", "branch_route", "onsend_route",
    "send_route", "event_route",
})  # fmt: skip
_FUNCTIONS: Final = frozenset({"m_store", "m_store_addrs", "m_dump"})
_ALIASES: Final = frozenset({"alias", "domain"})
_NUMBERS: Final = frozenset({"port", "disable_tcp", "auto_aliases", "auto_domains", "enable_tls"})
_LOADERS: Final = frozenset({"loadmodule", "loadmodulex"})
_STATEMENTS: Final = _LOADERS | {"modparam", "modparamx"}
_FLAGS: Final = frozenset({"flags", "avpflags"})
_PATHS: Final = frozenset({"loadpath", "mpath", "cfgengine"})
_BOOLEANS: Final = {
    **dict.fromkeys(("yes", "true", "on", "enable"), 1), **dict.fromkeys(("no", "false", "off", "disable"), 0),
}  # fmt: skip

_ADDRESS: Final = re.compile(
    r"(?:(?P<transport>udp|tcp|tls|sctp|ws|wss|\*):)?(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:()]+))"
    r"(?::(?P<port>\d{1,5}|\*))?",
    re.IGNORECASE,
)
_BARE_IPV6: Final = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*")
_NUMBER: Final = re.compile(r"0x(?P<hex>[0-9a-fA-F]+)|(?P<binary>[01]+)b|0(?P<octal>[0-7]+)|(?P<decimal>0|[1-9][0-9]*)")
_BASES: Final = {"hex": 16, "binary": 2, "octal": 8, "decimal": 10}


class _Parser:
    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.statements = Statements()
        self._tokens = tokens
        self._at = 0

    def run(self) -> None:
        while (token := self._peek()) is not None:
            if token.kind is Kind.SIGN and token.text == ";":
                self._at += 1
            elif token.kind is not Kind.WORD:
                self._strange()
            elif token.text in ("modparam", "modparamx"):
                self._parameter()
            elif token.text in _LOADERS:
                self._module()
            elif token.text in _ROUTES and self._sign_at(1) in ("{", "["):
                self._route()
            elif self._sign_at(1) == "=":
                self._assignment()
            elif self._sign_at(1) == ".":
                self._own_parameter()
            elif token.text in _PATHS:
                self._take_line()
                self.statements.core.append(Named(token.text, token.place))
            elif token.text in _FLAGS:
                self._flags()
            else:
                self._strange()

    # -- Tokens --------------------------------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> Token | None:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else None

    def _sign_at(self, ahead: int) -> str:
        token = self._peek(ahead)
        return token.text if token is not None and token.kind is Kind.SIGN else ""

    def _take(self) -> Token | None:
        token = self._peek()
        self._at += token is not None
        return token

    def _take_sign(self, sign: str) -> bool:
        found = self._sign_at(0) == sign
        self._at += found
        return found

    def _take_string(self) -> Token | None:
        token = self._peek()
        return self._take() if token is not None and token.kind is Kind.STRING else None

    def _take_line(self) -> list[Token]:
        taken: list[Token] = []
        while (token := self._peek()) is not None and not (taken and self._begins_another(token, taken[-1])):
            taken.append(token)
            self._at += 1
        return taken

    def _begins_another(self, token: Token, before: Token) -> bool:
        if token.place != before.place or token.text == ";":
            return True
        # Several on one line are rare, but none may be lost.
        if token.kind is not Kind.WORD or before.text == ".":
            return False
        return self._sign_at(1) == "=" or token.text in _STATEMENTS

    def _take_block(self) -> list[Token]:
        """Take ``{`` and all up to its ``}``."""
        first = self._peek()
        assert first is not None, "the caller saw it"
        begin, depth = self._at, 0
        while (token := self._take()) is not None:
            if token.kind is Kind.SIGN:
                depth += {"{": 1, "}": -1}.get(token.text, 0)
                if depth == 0:
                    return list(self._tokens[begin + 1 : self._at - 1])
        # Nothing in a route is carried over, so that this is no reason to give up.
        what = "a { without its }, so that all behind it belongs to it"
        self.statements.strange.append(Named(what, first.place))
        return list(self._tokens[begin + 1 :])

    # -- Statements ----------------------------------------------------------------------------------------------------

    def _strange(self) -> None:
        line = self._take_line()
        self.statements.strange.append(Named(spell(line), line[0].place))

    def _parameter(self) -> None:
        keyword = self._take()
        assert keyword is not None, "the caller saw it"
        parts: list[Token] = []
        begins = self._take_sign("(")
        while begins and len(parts) < 2 and (part := self._take_string()) is not None and self._take_sign(","):
            parts.append(part)
        minus = len(parts) == 2 and self._take_sign("-")
        value = self._take() if len(parts) == 2 else None
        if value is None or not self._take_sign(")"):
            raise SettingsError(f'{keyword.place}: this should be {keyword.text}("module", "parameter", value)')
        unknown = parts[0].unknown or parts[1].unknown or value.unknown
        meant: str | int = value.text
        if value.kind is not Kind.STRING:
            number = _number(value.text)
            if number is None:
                unknown = unknown or _not_defined(value)
            else:
                meant = -number if minus else number
        self.statements.parameters.append(
            Parameter(parts[0].text, parts[1].text, meant, keyword.place, keyword.text == "modparamx", unknown)
        )

    def _module(self) -> None:
        keyword = self._take()
        assert keyword is not None, "the caller saw it"
        in_parentheses = self._take_sign("(")
        name = self._take_string()
        if name is None:
            raise SettingsError(f'{keyword.place}: this should be {keyword.text} "module"')
        while in_parentheses and not self._take_sign(")") and self._take() is not None:
            pass
        # "/usr/lib/kamailio/modules/msilo.so" is msilo.
        self.statements.modules.append(Named(name.text.rpartition("/")[2].removesuffix(".so"), keyword.place))

    def _flags(self) -> None:
        keyword = self._take()
        assert keyword is not None, "the caller saw it"
        self.statements.core.append(Named(keyword.text, keyword.place))
        more = True
        while more:
            self._take()
            if self._take_sign(":"):
                self._take()
            more = self._take_sign(",")

    def _route(self) -> None:
        head: list[Token] = []
        while self._sign_at(0) != "{":
            token = self._take()
            if token is None:
                raise SettingsError(f"{head[0].place}: a {head[0].text} without its {{")
            head.append(token)
        self.statements.routes.append(Named(spell(head), head[0].place))
        body = self._take_block()
        for token, following in itertools.pairwise(body):
            if token.kind is Kind.WORD and token.text in _FUNCTIONS and following.text == "(":
                self.statements.calls.append(Call(token.text, token.place))

    def _own_parameter(self) -> None:
        # A parameter of the operator's own, such as `pstn.gateway = "192.0.2.7" desc "…"`.
        line = self._take_line()
        signs = [token.text for token in line[:4]]
        known = len(signs) == 4 and signs[3] == "="
        self._note(Named("".join(signs[:3]) if known else spell(line), line[0].place), strange=not known)

    def _note(self, named: Named, *, strange: bool) -> None:
        (self.statements.strange if strange else self.statements.core).append(named)

    def _assignment(self) -> None:
        name = self._take()
        self._at += 1
        assert name is not None, "the caller saw it"
        if name.text == "listen":
            self.statements.listen += self._addresses(name)
        elif name.text in _ALIASES:
            self.statements.aliases += self._addresses(name)
        elif name.text == "socket" and self._sign_at(0) == "{":
            self.statements.listen.append(_socket(self._take_block(), name.place))
        elif name.text in _NUMBERS:
            self._core_number(name)
        else:
            self._take_line()
            self.statements.core.append(Named(name.text, name.place))

    def _core_number(self, name: Token) -> None:
        value = self._take()
        number = _number(value.text) if value is not None and value.kind is Kind.WORD and not value.unknown else None
        if number is None:
            why = (value.unknown or _not_defined(value)) if value is not None else "the file ends"
            raise SettingsError(f"{name.place}: {name.text} wants a number: {why}")
        self.statements.numbers[name.text.replace("auto_domains", "auto_aliases")] = (number, name.place)

    def _addresses(self, name: Token) -> list[Address]:
        found: list[Address] = []
        while not found or self._more_addresses():
            run = self._take_address()
            if not run:
                raise SettingsError(f"{name.place}: {name.text} wants an address, such as udp:192.0.2.2:5060")
            found.append(_address(run, self._take_options()))
        return found

    def _more_addresses(self) -> bool:
        token, before = self._peek(), self._tokens[self._at - 1]
        if token is None or self._sign_at(1) == "=":
            return False
        if token.kind is Kind.STRING or token.text in ("[", "("):
            return True
        if token.kind is Kind.SIGN:
            return token.text == "*" and self._sign_at(1) == ":"
        if token.kind is not Kind.WORD:
            return False
        # On a line of its own a word is the next statement, unless it can be nothing but an address.
        return token.place == before.place or token.text[0].isdigit() or self._sign_at(1) == ":"

    def _take_address(self) -> list[Token]:
        """Take the tokens of one address: those that stand together, or at a colon."""
        run: list[Token] = []
        if self._sign_at(0) == "(":
            while (token := self._take()) is not None:
                run.append(token)
                if token.text == ")":
                    break
        while (token := self._peek()) is not None and token.text != ";":
            stands_together = not run or token.glued or ":" in (token.text, run[-1].text)
            if not stands_together or (token.kind is Kind.SIGN and token.text not in ":.[]*-%"):
                break
            run.append(token)
            self._at += 1
        return run

    def _take_options(self) -> list[Token]:
        """Take what may stand behind an address."""
        options: list[Token] = []
        while (token := self._peek()) is not None and token.kind is Kind.WORD:
            if token.text.lower() not in ("advertise", "name", "virtual") or self._sign_at(1) == "=":
                break
            options.append(token)
            self._at += 1
            if token.text.lower() != "virtual":
                options += self._take_address()
        return options


def _address(run: list[Token], options: list[Token]) -> Address:
    text = "".join([token.text for token in run])
    place, more = run[0].place, spell(options)
    unknown = next((token.unknown for token in run if token.unknown), "")
    if _BARE_IPV6.fullmatch(text.strip("[]")) is not None:
        return Address(text, place, host=text.strip("[]"), more=more, unknown=unknown)
    match = _ADDRESS.fullmatch(text)
    # In quotes it is a host and nothing else.
    if match is None or (len(run) == 1 and run[0].kind is Kind.STRING and text != match["host"]):
        return Address(text, place, more=more, unknown=unknown)
    transport = (match["transport"] or "").lower().strip("*")
    port = 0 if match["port"] in (None, "*") else int(match["port"])
    host: str = match["ipv6"] or match["host"]
    return Address(text, place, transport, host, port, more, unknown)


def _socket(body: list[Token], place: Place) -> Address:
    attributes: dict[str, list[Token]] = {}
    values: list[Token] = []
    for index, token in enumerate(body):
        following = body[index + 1].text if index + 1 < len(body) else ""
        if token.kind is Kind.WORD and following == "=":
            values = attributes[token.text.lower()] = []
        elif token.text not in ("=", ";"):
            values.append(token)
    bind = attributes.pop("bind", [])
    if not bind:
        raise SettingsError(f"{place}: a socket wants bind = udp:192.0.2.2:5060 or the like")
    address = _address(bind, [])
    more = "; ".join([f"{name} {spell(tokens)}" for name, tokens in attributes.items()])
    return msgspec.structs.replace(address, place=place, more=more)


def _number(text: str) -> int | None:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    match = _NUMBER.fullmatch(text)
    if match is None or match.lastgroup is None:
        return None
    return int(match[match.lastgroup], _BASES[match.lastgroup])


def _not_defined(token: Token) -> str:
    return f"{token.text} is no number, and not defined: if Kamailio is started with -A, give --define here"
