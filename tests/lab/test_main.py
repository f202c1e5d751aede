"""`python -m lab`: every command has an example, and every example on a page or in a help text is understood."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lab import programs
from lab.__main__ import COMMANDS, lab

PAGES = [path.read_text() for path in (*programs.ROOT.glob("*.md"), *programs.ROOT.glob("docs/*.md"))]


def command(name: str) -> click.Command:
    found = lab.get_command(click.Context(lab), name)
    assert found is not None
    return found


HELP = "\n".join(command(name).help or "" for name in COMMANDS)
EXAMPLES = [
    *re.findall(r"^ *lab ([a-z]+.*?)(?:  |#|$)", HELP, re.MULTILINE),
    *(example for page in PAGES for example in re.findall(r"^scripts/lab ([a-z]+.*?)(?:  |#|$)", page, re.MULTILINE)),
]


@pytest.mark.parametrize("example", sorted({example.strip() for example in EXAMPLES}))
def test_every_example_is_understood(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *arguments = shlex.split(example)
    monkeypatch.chdir(tmp_path)
    for argument in arguments:
        if argument.endswith((".onnx", ".so")):
            Path(argument).parent.mkdir(parents=True, exist_ok=True)
            Path(argument).touch()
    with command(name).make_context(name, arguments):
        pass


def test_every_command_has_an_example_and_is_on_the_contributors_page() -> None:
    assert {example.split()[0] for example in EXAMPLES} == set(COMMANDS)
    page = (programs.ROOT / "CONTRIBUTING.md").read_text()
    assert set(
        re.findall(r"^\| `(\w+)` \|", page.partition("## The laboratory")[2].partition("\n## ")[0], re.MULTILINE)
    ) == set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["benchmark"], 2, "Error: No such command 'benchmark'."),
        (["noise", "WORK", "--blocks", "3"], 2, "Error: Invalid value for '--blocks': 3 is not in the range x>=200."),
        (["instructions", "--cpu", "cortex-a53", "no.onnx"], 2, "lab: no.onnx is no ONNX file"),
    ],
)
def test_a_problem_is_a_line_and_an_exit_code(arguments: list[str], code: int, line: str, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_text("no")
    done = subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=tmp_path, env=programs.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines()[-1].startswith(line)


def test_no_command_loads_pytorch_before_it_has_to() -> None:
    code = "import sys, lab.kernels, lab.peers, lab.sizes; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=programs.environment(), check=False)
    assert done.returncode == 0
