"""The C sources keep to the house's measure: short files and functions, few parameters, files that stand alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeprune.kernels.build import LEVEL_SOURCE, SOURCES

HERE = Path(__file__).parent
FILES = sorted(path for folder in (SOURCES, HERE) for path in folder.rglob("*") if path.suffix in (".c", ".h", ".inc"))
# Included once for each width of vectors, with LANES naming it.
TEMPLATES = ("simd_x86.inc", "float_tiles.inc", "integer_tiles.inc", "turns.inc")
ONCE = [path for path in FILES if path.suffix != ".c" and path.name not in TEMPLATES]


class Function(NamedTuple):
    head: str
    parameters: int
    lines: int


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCES if path.is_relative_to(SOURCES) else HERE))


def code(text: str) -> str:
    """Without comments, strings, characters and preprocessor lines; as many lines as before."""

    def emptied(match: re.Match[str]) -> str:
        return " " + "\n" * match.group().count("\n")

    text = re.sub(r"/\*.*?\*/|//[^\n]*", emptied, text, flags=re.DOTALL)
    text = re.sub(r"\"(\\.|[^\"\\])*\"|'(\\.|[^'\\])+'", "0", text)
    return re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", emptied, text, flags=re.MULTILINE)


def parameters(head: str) -> tuple[str, int]:
    """(what stands before the last pair of brackets of a function's head, how many parameters stand inside)."""
    depth = commas = 0
    for at in range(len(head) - 1, -1, -1):
        depth += (head[at] == ")") - (head[at] == "(")
        commas += head[at] == "," and depth == 1
        if depth == 0:
            return " ".join(head[:at].split()), commas + 1
    raise AssertionError(head)


def functions(text: str) -> Iterator[Function]:
    """Every function that is defined."""
    depth = start = 0
    head = ""
    for mark in re.finditer(r"[{};]", text):
        if mark.group() == "{":
            if depth == 0:
                head = text[start : mark.start()].strip()
            depth += 1
            continue
        depth -= mark.group() == "}"
        if depth == 0:
            if mark.group() == "}" and head.endswith(")"):
                yield Function(*parameters(head), text[start : mark.end()].strip().count("\n") + 1)
            start, head = mark.end(), ""


def test_functions_are_found() -> None:
    text = "/* f(a, b) { */ static int V(f_)(int a, void (*g)(int, int)) {\nif (a) { h(1, 2); }\n} int p(void) { }"
    assert list(functions(code(text))) == [("static int V(f_)", 2, 3), ("int p", 1, 1)]
    assert sum(len(list(functions(code(path.read_text())))) for path in FILES) > 300


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short_and_take_few_parameters(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path.name} is too long"
    for head, count, lines in functions(code(text)):
        assert count <= 6, f"{path.name}: {head} takes {count} parameters; a struct holds more"
        assert lines <= 60, f"{path.name}: {head} has {lines} lines"


def test_headers_and_bodies_stand_alone_so_that_their_order_is_no_matter(tmp_path: Path) -> None:
    for path in ONCE:
        text = path.read_text()
        assert "#pragma once\n" in text, f"{name_of(path)} may not be included twice"
        (tmp_path / f"{path.name}.c").write_text(f'#include "{path}"\n')
    folders = [f"-I{folder}" for folder in (SOURCES, HERE)]
    flags = ["-std=gnu11", "-O0", "-Wall", "-Wextra", "-Werror", "-Wno-unused", *folders, "-DLEVEL=alone", "-c"]
    programs = sorted(path.name for path in tmp_path.iterdir())
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl", "-mcpu=x86_64", *flags, *programs]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_a_level_is_one_translation_unit_with_all_bodies() -> None:
    assert [path.name for path in LEVEL_SOURCE.parent.glob("*.c")] == [LEVEL_SOURCE.name]
    included, waiting = set(), {LEVEL_SOURCE.name}
    while waiting:
        name = waiting.pop()
        included.add(name)
        path = LEVEL_SOURCE.parent / name
        found = re.findall(r'#include "(.*?)"', path.read_text()) if path.is_file() else []
        waiting |= set(found) - included
    assert {path.name for path in LEVEL_SOURCE.parent.iterdir()} <= included
