"""Phrases that pages and messages do without: plain modern English, and one word for one thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeprune
from tests.test_docs import PAGES

ROOT = Path(edgeprune.__file__).parent
UNIT = r"(?:side|level|block|run|row|call|layer|step|bundle|budget|command|target|runtime|process|device|operator)"
COUNTED = r"(?:blocks?|pairs|processes|bundles?|lines?|cases?|steps?|times|ns|us|ms|examples?|channels|strings?)"
# What to write instead stands after the arrow.
NOT_WRITTEN = (
    r"\bbehind\b",  # -> after
    r"(?<!cannot )\btells?\b(?! apart)",  # -> reports, says, shows
    r"\btold of\b",  # -> reported
    r"\bbut for\b",  # -> except
    r"\b(?:from|where) which on\b|\bfrom where on\b",  # -> from ... upwards
    r"\b(?:by|in) turns\b",  # -> alternately
    r"\b(?!at\b)\w+ at (?:least|most)[.;:)]",  # -> at least one
    r"\bin place of\b",  # -> instead of
    r"\bhangs? on\b",  # -> depends on
    r"\b(?:brings?|brought)(?: \w+){0,4} along\b",  # -> contains
    r"\b(?:to|cannot|can) be had\b",  # -> available
    r"\b(?:goes|go|went) on (?:from|where|after)\b",  # -> continues
    r"\ball the same\b",  # -> nevertheless, anyway
    rf"\b{COUNTED} an? {UNIT}\b",  # -> per
    r"\bonce an? (?:iteration|level|step|run|layer)\b",  # -> per
    r"\blook(?:s|ed)? into the folder\b",  # -> in
    r"\bheld against\b|\bholds? \w+ \w+ against\b",  # -> compared with
    r"\bdata are\b",  # -> data is
)
ROOMS = ("cli", "bench", "report", "gate", "doctor", "export", "tasks")


def faults(text: str) -> list[str]:
    """The phrases of a text that are on the list, wherever its lines break."""
    joined = re.sub(r"\s+", " ", text)
    return [match[0] for phrase in NOT_WRITTEN for match in re.finditer(phrase, joined)]


def prose(page: str) -> str:
    """A page without its code."""
    return re.sub(r"```.*?```|`[^`]*`", " ", page, flags=re.DOTALL)


def messages(tree: ast.Module) -> Iterator[str]:
    """The texts in a file that may be shown: all but docstrings."""
    hidden = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            hidden |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
            yield node.value


@pytest.mark.parametrize("name", [name for name in PAGES if name != "CHANGELOG.md"])
def test_pages_do_without_these_phrases(name: str) -> None:
    assert faults(prose(PAGES[name])) == []


@pytest.mark.parametrize("room", ROOMS)
def test_messages_do_without_these_phrases(room: str) -> None:
    files = [*ROOT.glob(f"{room}/**/*.py"), *ROOT.glob(f"{room}.py")]
    shown = {text: file.name for file in files for text in messages(ast.parse(file.read_text()))}
    assert len(shown) > 20
    assert [(file, text, faults(text)) for text, file in shown.items() if faults(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "the lines behind it",
        "two blocks a\nside",
        "it loses one at most.",
        "x in place of y",
        "the same command goes on from",
    ],
)
def test_a_phrase_is_noticed(text: str) -> None:
    assert faults(text)


def test_texts_are_found_and_docstrings_are_none() -> None:
    file = '"""It tells."""\nname = f"it {1} tells"\ndef one():\n    """It tells."""\n    return "told"\n'
    assert set(messages(ast.parse(file))) == {"it 7 tells", "told"}


def test_the_glossary_has_the_words_of_the_house() -> None:
    words = set(re.findall(r"^\*\*(\w+)\*\*", PAGES["docs/glossary.md"], re.MULTILINE))
    assert words >= {
        *("Ticket", "Twin", "Bundle", "Artifact", "Block", "Level", "Mask", "Rewind", "Density", "Sparsity"),
        *("Pattern", "Target", "Probe", "Certificate", "Parity", "Verdict", "Budget"),
    }
