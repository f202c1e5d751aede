"""The documentation is tested: commands parse, examples run, links lead somewhere, facts match the code."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import edgeprune
from edgeprune import patterns, tasks
from edgeprune.cli import cli
from edgeprune.target import target_names

ROOT = Path(edgeprune.__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
}
COMMANDS = sorted(cli.commands)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(PAGES[page]) if kind == language]


def examples(text: str) -> list[list[str]]:
    """Every line that calls edgeprune, as its arguments."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if re.match(r"edgeprune [a-z]", line)]


INDENTED = "\n".join(line for line in PAGES["README.md"].splitlines() if line.startswith("    "))
TEXTS = (
    INDENTED,
    *(body for page in PAGES for body in blocks(page, "bash")),
    *(cli.commands[n].help or "" for n in COMMANDS),
)
DOCUMENTED = {" ".join(("edgeprune", *arguments)): arguments for text in TEXTS for arguments in examples(text)}


@pytest.mark.parametrize("arguments", DOCUMENTED.values(), ids=DOCUMENTED)
def test_every_example_is_understood(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("free-spoken-digit-dataset").mkdir()
    Path("benchmark_model").touch()
    with cli.commands[arguments[0]].make_context(arguments[0], arguments[1:]):
        pass


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_in_its_help_and_on_its_page(name: str) -> None:
    assert [found for found in examples(cli.commands[name].help or "") if found[0] == name]
    section = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", PAGES["docs/commands.md"], re.MULTILINE | re.DOTALL)
    assert section, f"docs/commands.md has no section {name}"
    assert [found for found in examples(section[1]) if found[0] == name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_named_on_its_page_exists(name: str) -> None:
    section = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", PAGES["docs/commands.md"], re.MULTILINE | re.DOTALL)
    assert section
    options = {option for parameter in cli.commands[name].params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section[1])) <= options | {"--out", "--json"}


def load_script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A file of scripts/ as a module; it finds its neighbours as when it is run."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module(name)


def test_the_pages_hold_the_facts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    make_docs = load_script("make_docs", monkeypatch)
    generated = re.findall(r"^<!-- generated: ([\w -]+) -->$", "\n".join(PAGES.values()), re.MULTILINE)
    tables = {"exit codes", "targets", "what pays off", "results", "operators", "zoo"}
    assert {f"command {name}" for name in COMMANDS} | tables == set(generated)
    for name, page in PAGES.items():
        assert make_docs.filled(page) == page, f"{name} is out of date: run scripts/make_docs.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_on_the_page(name: str) -> None:
    section = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", PAGES["docs/commands.md"], re.MULTILINE | re.DOTALL)
    introduction = PAGES["docs/commands.md"].partition("## ")[0]
    assert section
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            assert f"`{parameter.opts[0]}" in section[1] + introduction, f"docs/commands.md lacks {parameter.opts[0]}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        there = os.path.normpath(Path(page).parent / path) if path else page
        assert (ROOT / there).exists(), f"{page} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", PAGES[there], re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_examples_use_what_there_is(page: str) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "edgeprune":
                assert node.attr in edgeprune.__all__
            if isinstance(node, ast.ImportFrom) and node.module == "edgeprune":
                assert {alias.name for alias in node.names} <= set(edgeprune.__all__)


def test_all_there_is_is_described() -> None:
    for name in target_names():
        assert f"| `{name}` |" in PAGES["docs/targets.md"]
    for name in patterns.names():
        assert f"| `{name}`" in PAGES["docs/patterns.md"]
    for name in tasks.names():
        assert f"`{name}`" in PAGES["docs/tasks.md"]


def test_the_target_example_is_a_target(tmp_path: Path) -> None:
    (code,) = blocks("docs/targets.md", "toml")
    (tmp_path / "mine.toml").write_text(code)
    assert edgeprune.load_target(str(tmp_path / "mine.toml")).description == "My board"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page on tasks was followed, with a short training: mytask.py, ticket, bundle."""
    folder = tmp_path_factory.mktemp("reader")
    (code,) = (body for body in blocks("docs/tasks.md", "python") if "Task(" in body)
    (folder / "mytask.py").write_text(code)
    find = ["find", "mytask.py:make", "--target", "rpi4", "--seeds", "1", "--levels", "1"]
    export = ["export", "--target", "rpi4", "--runtime", "litert", "--precision", "int8"]
    for arguments, link in ((find, "ticket"), (export, "bundle")):
        done = subprocess.run(
            [sys.executable, "-m", "edgeprune", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (folder / link).symlink_to(done.stdout.strip())
    return folder


def test_the_complete_task_example_learns(finished: Path) -> None:
    ticket = edgeprune.Ticket.load(finished / "ticket")
    assert ticket.task_name == "gestures"
    assert ticket.seeds[0].test["dense"] > 0.8
    artifact = edgeprune.Artifact.load(finished / "bundle")
    assert artifact.weights_removed > 0
    assert artifact.zeros_lost == 0


def test_the_ticket_example_runs(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    (code,) = blocks("docs/tickets.md", "python")
    names: dict[str, object] = {}
    exec(compile(code, "docs/tickets.md", "exec"), names)
    assert isinstance(names["mask"], edgeprune.Mask)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_device_example_runs(page: str, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    (code,) = blocks(page, "python")
    # The pages show the digits' input; this bundle takes three axes of 64 samples.
    names: dict[str, object] = {}
    exec(compile(code.replace("(1, 64)", "(1, 3, 64)"), page, "exec"), names)
    assert getattr(names["outputs"], "shape", None) == (1, 4)
