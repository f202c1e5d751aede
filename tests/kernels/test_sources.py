"""The C sources keep to the house's measure: short files, few parameters, headers that stand alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.kernels.build import SOURCES

HERE = Path(__file__).parent
FILES = sorted(path for folder in (SOURCES, HERE) for path in folder.rglob("*") if path.suffix in (".c", ".h", ".inc"))


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCES if path.is_relative_to(SOURCES) else HERE))


def code(text: str) -> str:
    """Without comments, strings, characters and preprocessor lines."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    text = re.sub(r"\"(\\.|[^\"\\])*\"|'(\\.|[^'\\])+'", "0", text)
    return re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", "", text, flags=re.MULTILINE)


def parameters(head: str) -> tuple[str, int]:
    """(what stands before the last pair of brackets of a function's head, how many parameters stand inside)."""
    depth = commas = 0
    for at in range(len(head) - 1, -1, -1):
        depth += (head[at] == ")") - (head[at] == "(")
        commas += head[at] == "," and depth == 1
        if depth == 0:
            return " ".join(head[:at].split()), commas + 1
    raise AssertionError(head)


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Every function that is defined, with its number of parameters."""
    depth = start = 0
    for mark in re.finditer(r"[{};]", text):
        if mark.group() == "{":
            head = text[start : mark.start()].rstrip()
            if depth == 0 and head.endswith(")"):
                yield parameters(head)
            depth += 1
            continue
        depth -= mark.group() == "}"
        if depth == 0:
            start = mark.end()


def test_functions_are_found() -> None:
    text = "/* f(a, b) { */ static int V(f_)(int a, void (*g)(int, int)) { if (a) { h(1, 2); } } int p(void) { }"
    assert list(functions(code(text))) == [("static int V(f_)", 2), ("int p", 1)]
    assert sum(len(list(functions(code(path.read_text())))) for path in FILES) > 300


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short_and_functions_take_few_parameters(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{path.name} has {lines} lines"
    for name, count in functions(code(path.read_text())):
        assert count <= 6, f"{path.name}: {name} takes {count} parameters; a struct holds more"


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".h"], ids=name_of)
def test_headers_may_be_included_anywhere_and_more_than_once(path: Path) -> None:
    guard = f"EDGEPRUNE_{path.stem.upper()}_H"
    assert f"#ifndef {guard}\n#define {guard}\n" in path.read_text(), "a body without a guard is named .inc"
