"""Writes the facts into the pages: what lies there between `<!-- generated: KIND -->` and `<!-- end -->`.

    .venv/bin/python scripts/make_docs.py

Prose is written by hand, outside of these marks; options, exit codes and targets come from the code and the targets'
files, results from `docs/results/*.json` (`results_page.py`). A test compares the pages with what this would write.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import results_page

from edgeprune.cli import cli
from edgeprune.errors import ExitCode
from edgeprune.operator_row import SHARED, TRANSPOSED, Operator
from edgeprune.operators import EXPORTED, OPERATORS
from edgeprune.target import load_target, target_names

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"(?<=^<!-- generated: )([\w -]+)( -->\n).*?(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)
IN_THE_INTRODUCTION = ("out", "as_json")  # of the page: all commands have them


def main() -> None:
    """Write all pages anew and name those that changed."""
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text()
        after = filled(before)
        if after != before:
            path.write_text(after)
            click.echo(path)


def filled(page: str) -> str:
    """A page with its blocks as they should be; KeyError for a block of an unknown kind."""
    return BLOCK.sub(lambda found: f"{found[1]}{found[2]}\n{_block(found[1])}\n\n", page)


def _block(kind: str) -> str:
    if kind.startswith("command "):
        return _command(kind.removeprefix("command "))
    tables = {"exit codes": _exit_codes, "targets": _targets, "what pays off": _paying, "operators": _operators}
    pages = {"results": results_page.results, "zoo": results_page.zoo}
    return {**tables, **pages}[kind]()


def _command(name: str) -> str:
    """What a command's help says: purpose, examples, options."""
    command = cli.commands[name]
    purpose, _, examples = (command.help or "").partition("\b\n")
    context = click.Context(command, info_name=name)
    lines = []
    for parameter in command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None and parameter.name not in IN_THE_INTRODUCTION:
            lines.append(f"- `{record[0]}`: {' '.join(record[1].split())}")
    shown = f"```bash\n{inspect.cleandoc(examples).strip()}\n```"
    return "\n\n".join(filter(None, (inspect.cleandoc(purpose).strip(), shown, "\n".join(lines))))


def _table(*rows: tuple[str, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, *rest)).replace("\n", f"\n|{'---|' * len(head)}\n", 1)


def _exit_codes() -> str:
    return _table(("exit code", "meaning"), *((code.label, code.meaning) for code in ExitCode))


def _targets() -> str:
    return _table(("name", "device"), *((f"`{name}`", load_target(name).description) for name in target_names()))


def _paying() -> str:
    """Runtime, pattern and share of zeros with the reason, and the targets that have it so."""
    names: dict[tuple[str, ...], list[str]] = {}
    for target in map(load_target, target_names()):
        for runtime in target.runtimes:
            for paying in runtime.patterns:
                row = (f"`{paying.pattern}`", runtime.name, f"{paying.from_sparsity:g}", paying.why)
                names.setdefault(row, []).append(f"`{target.name}`")
    rows = ((*row[:3], _targets_of(there), row[3]) for row, there in names.items())
    return _table(("pattern", "runtime", "from sparsity", "targets", "why"), *rows)


def _operators() -> str:
    """What becomes of each operator that a network may have; nothing is left of an Identity."""
    rows = (
        (f"`{name}`", _integer(OPERATORS[name]), _own(OPERATORS[name]), _lite(OPERATORS[name])) for name in EXPORTED
    )
    return _table(("operator", "int8 in ONNX Runtime", "kernels of the library", "int8 in LiteRT"), *rows)


def _integer(row: Operator) -> str:
    if not row.int8 or not row.int8[0].integer:
        return "float"
    return "keeps its input's scale" if row.int8[0].output == SHARED else "yes"


def _own(row: Operator) -> str:
    if row.weights and row.weights != TRANSPOSED:
        return "sparse"
    return "on packed tensors" if row.packed else ""


def _lite(row: Operator) -> str:
    if row.litert is None or not (row.litert.form or row.litert.spelling):
        return ""
    spelled = not row.litert.form
    return "as simpler operators" if spelled else "yes" if row.litert.int8 else "float"


def _targets_of(names: list[str]) -> str:
    return "all" if len(names) == len(target_names()) else ", ".join(names)


if __name__ == "__main__":
    main()
