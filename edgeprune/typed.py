"""What a file holds, as the types that it should have, or one line that names the field that is wrong.

    parse_json, parse_toml    bytes -> plain values; no NaN, no number out of range, no field twice, not too deep
    decode                    plain values -> a dataclass (or any other type), by its type hints

Everything that edgeprune reads goes through here, whoever wrote it: seals are no defence, since people edit files and
seal them again. Runs on a device: Python 3.9 and its standard library.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

from edgeprune.errors import EdgepruneError

DEEPEST = 32  # levels of nesting; the deepest file of ours has six
LARGEST_INT = 1 << 63  # what NumPy, C and other readers of JSON take
SHOWN = 40  # characters of a wrong value
MANY_KEYS = re.compile(rb"(?:[\w\"'-]+[ \t]*\.[ \t]*){%d}" % DEEPEST)
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
UNIONS = (Union, getattr(types, "UnionType", Union))
T = TypeVar("T")
_hints = cache(get_type_hints)


class WrongContent(ValueError):
    """Content that is not what it should be: one line that begins with the field."""


def parse_json(data: Union[bytes, str]) -> Any:
    """The value that JSON text holds; WrongContent for everything that is not strictly JSON, or nested too deep."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_each_once)
    except WrongContent:
        raise
    except RecursionError:
        raise WrongContent("it is nested too deep") from None
    except ValueError as problem:
        raise WrongContent(f"not valid JSON ({problem})") from None
    return _checked(value)


def parse_toml(data: bytes) -> Any:
    """The table that TOML text holds; WrongContent for what is none. Needs Python 3.11."""
    import tomllib

    if MANY_KEYS.search(data):  # the time that tomllib takes grows with the square of their number
        raise WrongContent("it is nested too deep")
    try:
        value = tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise WrongContent("it is nested too deep") from None
    except ValueError as problem:  # tomllib's own error, one of the encoding, or a number of too many digits
        raise WrongContent(f"not valid TOML: {problem}") from None
    return _checked(value)


def _no_number(name: str) -> Any:
    raise WrongContent(f"not valid JSON ({name} is no number there)")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise WrongContent(f"the number {text[:SHOWN]} is out of range")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise WrongContent(f"the field {twice[:SHOWN]!r} is there twice")
    return found


def _checked(value: Any) -> Any:
    """The value, if it is nested at most DEEPEST levels: whoever goes through it may recurse then."""
    level = _containers(value)
    for _ in range(DEEPEST):
        if not level:
            return value
        level = [inner for container in level for inner in _containers(container)]
    raise WrongContent("it is nested too deep")


def _containers(value: Any) -> list[Any]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in inside if isinstance(inner, (dict, list))]


def decode(kind: type[T], value: Any, where: str = "", given: Optional[Mapping[str, Any]] = None) -> T:
    """`value` as a `kind`: a dataclass, a TypedDict, bool, int, float, str, Any, and tuples, sequences, mappings from
    text, optionals and unions of them. Lists become tuples where the type says so.

    where: the field's name, for the message. given: arguments of the dataclass that do not come from the file.
    WrongContent for a field that is missing, unknown or of another type, and for what the dataclass itself refuses.
    """
    found: T = _decode(kind, value, where, given or {})
    return found


def _decode(kind: Any, value: Any, where: str, given: Mapping[str, Any]) -> Any:
    origin = get_origin(kind)
    if kind is Any or kind is object:
        return _any(value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where, given)
    if hasattr(kind, "__required_keys__"):  # of a TypedDict
        return _fields(_hints(kind), kind.__required_keys__, value, where)
    if origin in UNIONS:
        return _union(kind, value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin is not None and issubclass(origin, Mapping):
        inner = get_args(kind)[1]
        entries = _object(value, where).items()
        return {_text(name, where): _decode(inner, entry, _join(where, name), {}) for name, entry in entries}
    if origin is not None and issubclass(origin, Sequence):
        return list(_tuple((*get_args(kind), ...), value, where))
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise _wrong(where, WORDS[kind], value)
    if kind is str:
        return _text(value, where)
    if kind in (int, float) and type(value) is int and not -LARGEST_INT <= value < LARGEST_INT:
        raise _wrong(where, "a number of at most 64 bits", value)
    if kind is float and not math.isfinite(value):
        raise _wrong(where, "a finite number", value)
    return value


def _text(value: str, where: str) -> str:
    """Text that any file or terminal takes: without NUL and halves of characters."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise _wrong(where, "text without NUL and surrogates", value)
    return value


def _any(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {_text(name, where): _any(inner, _join(where, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_any(inner, f"{where}[{place}]") for place, inner in enumerate(value)]
    if type(value) not in WORDS:  # TOML has dates
        raise _wrong(where, "text, a number, a list or a table", value)
    return _scalar(type(value), value, where)


def _union(kind: Any, value: Any, where: str) -> Any:
    choices = get_args(kind)
    for choice in choices:
        if type(value) is choice:
            return _scalar(choice, value, where)
    inner = [choice for choice in choices if choice not in WORDS]
    if value is not None and inner:
        return _decode(inner[0], value, where, {})
    if float in choices and type(value) is int:
        return _scalar(float, value, where)
    raise _wrong(where, " or ".join(WORDS.get(choice, "a list or an object") for choice in choices), value)


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    if kinds[-1] is ...:
        # Samples: there may be millions.
        plain = kinds[0] is int and value and all(type(number) is int for number in value)
        if plain and -LARGEST_INT <= min(value) <= max(value) < LARGEST_INT:
            return tuple(value)
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _wrong(where, f"a list of {len(kinds)}", value)
    return tuple(_decode(kind, inner, f"{where}[{place}]", {}) for place, (kind, inner) in enumerate(zip(kinds, value)))


def _dataclass(kind: Any, value: Any, where: str, given: Mapping[str, Any]) -> Any:
    hints = _hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind) if field.init and field.name not in given}
    nothing = dataclasses.MISSING
    needed = {name for name, entry in known.items() if entry.default is nothing and entry.default_factory is nothing}
    arguments = _fields({name: hints[name] for name in known}, needed, value, where)
    try:
        return kind(**arguments, **given)
    except EdgepruneError as problem:
        raise WrongContent(f"{where}: {problem.message}" if where else problem.message) from None


def _fields(hints: Mapping[str, Any], needed: Any, value: Any, where: str) -> dict[str, Any]:
    entries = _object(value, where)
    for name in entries:
        if name not in hints:
            raise WrongContent(f"{_join(where, name)}: unknown field")
    for name in hints:
        if name in needed and name not in entries:
            raise WrongContent(f"{_join(where, name)}: missing")
    return {name: _decode(hints[name], entry, _join(where, name), {}) for name, entry in entries.items()}


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    return value


def _join(where: str, name: str) -> str:
    """The field's name, such as layers[3].density or zeros['fc1.weight'].lost."""
    if not (name.isidentifier() and name.isascii() and len(name) <= SHOWN):
        return f"{where}[{ascii(name[:SHOWN])}]"
    return f"{where}.{name}" if where else name


def _wrong(where: str, expected: str, got: Any) -> WrongContent:
    if isinstance(got, dict):
        words = "an object"
    elif isinstance(got, list):
        words = f"a list of {len(got)}"
    elif isinstance(got, (bool, type(None))):
        words = json.dumps(got)
    elif isinstance(got, int) and abs(got) >= LARGEST_INT:
        words = "a larger one"
    else:
        words = ascii(got[:SHOWN]) if isinstance(got, str) else str(got)
    return WrongContent(f"{where}: expected {expected}, got {words}" if where else f"expected {expected}, got {words}")
