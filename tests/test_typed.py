"""One typed reader: what is read is of its type, or one line names the field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, TypedDict, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import typed
from edgeprune.errors import TicketError


class Note(TypedDict):
    text: str
    place: Optional[int]


@dataclass(frozen=True)
class Inner:
    density: float
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.density > 1:
            raise TicketError("density: expected at most 1")


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    done: bool
    layers: tuple[Inner, ...]
    zeros: Mapping[str, Inner]
    pair: Optional[tuple[float, float]]
    notes: Sequence[Note] = field(default_factory=list)
    value: Union[int, str] = 0
    rest: Any = None


GOOD: dict[str, Any] = {
    "name": "n",
    "count": 2,
    "done": True,
    "layers": [{"density": 0.5, "shape": [1, 2]}, {"density": 1}],
    "zeros": {"fc1.weight": {"density": 0.25}},
    "pair": [0, 1.5],
    "notes": [{"text": "x", "place": None}],
    "value": "v",
    "rest": {"a": [1, None]},
}


def test_types_come_from_the_hints() -> None:
    found = typed.decode(Outer, typed.parse_json(json.dumps(GOOD)))
    assert found.layers == (Inner(0.5, (1, 2)), Inner(1)) and found.zeros == {"fc1.weight": Inner(0.25)}
    assert found.pair == (0, 1.5) and found.value == "v" and found.rest == {"a": [1, None]}
    assert typed.decode(Outer, {**GOOD, "pair": None, "value": 3}).pair is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": 3}, "name: expected text, got 3"),
    ({"name": "a\0b"}, "name: expected text without NUL and surrogates, got 'a\\x00b'"),
    ({"name": "\ud800"}, "name: expected text without NUL and surrogates, got '\\ud800'"),
    ({"count": 1.5}, "count: expected a whole number, got 1.5"),
    ({"count": True}, "count: expected a whole number, got true"),
    ({"count": 10**30}, "count: expected a number of at most 64 bits, got a larger one"),
    ({"done": 1}, "done: expected true or false, got 1"),
    ({"layers": {}}, "layers: expected a list, got an object"),
    ({"layers": [{"density": None}]}, "layers[0].density: expected a number, got null"),
    ({"layers": [{"density": 0.5}, {}]}, "layers[1].density: missing"),
    ({"layers": [{"density": 2}]}, "layers[0]: density: expected at most 1"),
    ({"layers": [{"density": 0.5, "shape": [1, "2"]}]}, "layers[0].shape[1]: expected a whole number, got '2'"),
    ({"zeros": {"fc1.weight": []}}, "zeros['fc1.weight']: expected an object, got a list of 0"),
    ({"pair": [1.0]}, "pair: expected a list of 2, got a list of 1"),
    ({"pair": [1.0, float("inf")]}, "pair[1]: expected a finite number, got inf"),
    ({"pair": "x"}, "pair: expected a list, got 'x'"),
    ({"notes": [{"text": "x"}]}, "notes[0].place: missing"),
    ({"notes": [{"text": "x", "place": 1, "more": 1}]}, "notes[0].more: unknown field"),
    ({"value": None}, "value: expected a whole number or text, got null"),
    ({"rest": [{"a": 10**400}]}, "rest[0].a: expected a number of at most 64 bits, got a larger one"),
    ({"../x": 1}, "['../x']: unknown field"),
]


@pytest.mark.parametrize(("change", "says"), WRONG, ids=[says for _, says in WRONG])
def test_the_wrong_field_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(typed.WrongContent) as caught:
        typed.decode(Outer, {**GOOD, **change})
    assert str(caught.value) == says


@pytest.mark.parametrize("name", ["name", "layers", "pair"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(typed.WrongContent, match=f"^{name}: missing$"):
        typed.decode(Outer, {key: value for key, value in GOOD.items() if key != name})


def test_given_arguments_are_no_fields_of_the_file() -> None:
    less = {key: value for key, value in GOOD.items() if key != "name"}
    assert typed.decode(Outer, less, given={"name": "mine"}).name == "mine"
    with pytest.raises(typed.WrongContent, match="name: unknown field"):
        typed.decode(Outer, GOOD, given={"name": "mine"})


DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * DEEP + "]" * DEEP, "nested too deep"),
        ('{"a":' * DEEP + "1" + "}" * DEEP, "nested too deep"),
        ("[" * 40 + "]" * 40, "nested too deep"),
        ("[NaN]", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ("[1e999]", "the number 1e999 is out of range"),
        ("9" * 5000, "not valid JSON"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the field 'c' is there twice"),
        ("\ufeff{}", "not valid JSON"),
        ("{} {}", "not valid JSON"),
        ("", "not valid JSON"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_strict_json_is_refused(text: str, says: str) -> None:
    for data in (text, text.encode()):
        with pytest.raises(typed.WrongContent, match=says) as caught:
            typed.parse_json(data)
        assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(typed.WrongContent, match="not valid JSON"):
        typed.parse_json(b'{"a": "\xff"}')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"x = " + b"[" * DEEP + b"]" * DEEP, "nested too deep"),
        (b"x." * 40 + b"y = 1", "nested too deep"),
        (b"x . " * DEEP + b"y = 1", "nested too deep"),
        (b"x = " + b"9" * 5000, "not valid TOML"),
        (b"x = \xff", "not valid TOML"),
        (b"x = 1\nx = 2", "not valid TOML"),
    ],
)
def test_what_is_no_toml_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(typed.WrongContent, match=says):
        typed.parse_toml(text)


def test_a_date_or_a_number_that_is_none_is_refused() -> None:
    for text, says in ((b"a = 1979-05-27", "a: expected text, a number"), (b"a = [nan]", r"a\[0\]: expected a finite")):
        with pytest.raises(typed.WrongContent, match=says):
            typed.decode(Mapping[str, Any], typed.parse_toml(text))  # type: ignore[type-abstract]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(GOOD)), PLAIN)
def test_any_value_is_decoded_or_its_field_is_named(name: str, value: Any) -> None:
    try:
        found = typed.decode(Outer, {**GOOD, name: value})
    except typed.WrongContent as problem:
        assert str(problem).startswith(name) and "\n" not in str(problem) and str(problem).isascii()
    else:
        again = typed.decode(Outer, json.loads(json.dumps(dataclasses.asdict(found))))
        assert again == found
