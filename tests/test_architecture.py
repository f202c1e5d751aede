"""The house's layers: imports go strictly downward, siblings never meet, nothing outgrows its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import edgeprune
from edgeprune import patterns

ROOT = Path(edgeprune.__file__).parent
LAYERS = (
    {"errors", "operator_row", "progress", "warden"},
    {"typed"},
    {"store", "operators", "metric", "evidence", "scratch", "device"},
    {"archive", "options"},
    {"mask", "task", "ticket", "port", "artifact", "blocks", "plan"},
    {"statistics", "energy"},
    {"measurement"},
    {"patterns", "tasks", "runtimes", "connections", "kernels", "channels"},
    {"target"},
    {"find", "export", "bench", "report"},
    {"doctor", "gate", "cli"},
    {"__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
INSIDE_A_LAYER = {
    ("ticket", "mask"),
    ("artifact", "mask"),
    ("artifact", "port"),
    ("port", "mask"),
    ("cli", "doctor"),
    ("cli", "gate"),
}
# Inside the report: a file imports those of earlier rows.
REPORT = (
    {"units", "collection"},
    {"runs"},
    {"figures"},
    {"tickets", "bundles", "drawing", "commands"},
    {"timings"},
    {"builds"},
    {"text", "html"},
    {"__init__"},
)
STANDARD = set(sys.stdlib_module_names)
INTERPRETERS = ("onnxruntime", "ai_edge_litert.interpreter", "tflite_runtime", "tensorflow")
FRAMEWORKS = {"torch", "onnx", "onnxscript", "onnxruntime", "ai_edge_litert", "tensorflow", "sklearn"}
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
LAB = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
    for path in sorted((ROOT.parent / "lab").rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in {**FILES, **LAB}.items()}


def imported(name: str) -> Iterator[tuple[str, bool]]:
    """(what a file imports, with edgeprune's own modules as "edgeprune.x.y"; whether it does so while it loads)."""
    at_load = {id(node) for node in TREES[name].body}
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # The device's files lie in another package on a device, the timed networks in one beside a ticket's task.
            moved = "lab.networks" if name.startswith("lab.networks") else "edgeprune.device"
            inside = room(name) == "device" and str(node.module).split(".")[0] not in STANDARD
            inside |= moved == "lab.networks" and f"{moved}.{node.module}" in LAB
            assert node.level == inside, f"{name}: imports are absolute, or relative inside device/ and lab/networks/"
            module = ".".join(filter(None, [moved if node.level else "", node.module]))
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                deeper = whole.removeprefix("edgeprune.")
                if deeper in FILES or f"{deeper}.__init__" in FILES:
                    whole = f"edgeprune.{deeper}"
                elif whole not in LAB:
                    whole = module
                yield whole, id(node) in at_load


def own(name: str) -> set[str]:
    """The files of edgeprune that a file imports."""
    found = {what.removeprefix("edgeprune.") for what, _ in imported(name) if what.startswith("edgeprune.")}
    return {what if what in FILES else f"{what}.__init__" for what in found}


def room(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__"])
def test_imports_go_downward(name: str) -> None:
    here = room(name)
    for there in map(room, own(name)):
        allowed = LEVEL[there] < LEVEL[here] or there == here or (here, there) in INSIDE_A_LAYER
        assert allowed, f"{name} imports {there}: layer {LEVEL[here]} may import lower layers only"


def compared(tree: ast.AST) -> Iterator[str]:
    """The texts that stand in a comparison, in a list there or after `case`."""
    for node in ast.walk(tree):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        sides += [node.value] if isinstance(node, ast.MatchValue) else []
        for side in sides:
            parts = side.elts if isinstance(side, (ast.Tuple, ast.List, ast.Set)) else [side]
            yield from (part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


@pytest.mark.parametrize("name", FILES)
def test_what_is_special_about_a_name_is_said_in_its_own_file(name: str) -> None:
    folders = {"patterns": {*patterns.names(), "n:m"}, "connections": set(), "runtimes": set()}
    for folder, names in folders.items():
        names |= {file.split(".")[1] for file in FILES if room(file) == folder} - {"__init__"}
        asked = set(compared(TREES[name])) & names
        assert room(name) == folder or not asked, f"{name} compares with {asked}: let {folder}/ say what is special"


@pytest.mark.parametrize("name", [name for name in FILES if name != "errors"])
def test_exit_codes_stand_in_one_place(name: str) -> None:
    for node in ast.walk(TREES[name]):
        ends = isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "SystemExit")
        sets = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "exit_code"
        if ends or sets:
            numbers = [part for part in ast.walk(node) if isinstance(part, ast.Constant) and type(part.value) is int]
            assert not numbers or room(name) == "device", f"{name}: {ast.unparse(node)}; see errors.ExitCode"


def test_the_report_goes_one_way() -> None:
    row = {f"report.{name}": place for place, names in enumerate(REPORT) for name in names}
    assert set(row) == {name for name in FILES if room(name) == "report"}
    upward = [(name, there) for name in row for there in own(name) & set(row) if row[there] >= row[name]]
    assert upward == []


def test_there_is_no_cycle() -> None:
    list(TopologicalSorter({name: own(name) for name in FILES}).static_order())
    list(TopologicalSorter({name: {what for what, _ in imported(name)} & set(LAB) for name in LAB}).static_order())


def test_the_laboratory_is_no_part_of_edgeprune() -> None:
    assert "lab.timing" in LAB
    assert [name for name in FILES for what, _ in imported(name) if what.split(".")[0] == "lab"] == []


def test_what_runs_in_another_runtimes_python_needs_numpy_alone() -> None:
    peers = {"deepsparse", "MNN", "_tools"}
    for name in ("lab.block", "lab.peer_session"):
        needed = {what if what.startswith("lab") else what.split(".")[0] for what, _ in imported(name)}
        assert needed <= set(sys.stdlib_module_names) | {"numpy", "lab.block"} | peers


@pytest.mark.parametrize("name", [name for name in FILES if LEVEL.get(room(name), 0) < LEVEL["find"]])
def test_frameworks_are_imported_inside_functions(name: str) -> None:
    at_load = {what.split(".")[0] for what, early in imported(name) if early}
    assert not at_load & FRAMEWORKS


@pytest.mark.parametrize("name", [name for name in FILES if room(name) == "device"])
def test_what_travels_to_a_device_needs_nothing_of_edgeprune(name: str) -> None:
    assert {what for what in own(name) if room(what) != "device"} == set()
    needed = {what.split(".")[0] for what, _ in imported(name)} - {"edgeprune"}
    early = {what.split(".")[0] for what, early in imported(name) if early} - {"edgeprune"}
    assert early <= STANDARD and needed <= STANDARD | {"numpy"}


def opens(name: str) -> set[str]:
    """How a file opens or imports a runtime itself."""
    called = (ast.unparse(node.func) for node in ast.walk(TREES[name]) if isinstance(node, ast.Call))
    found = {call.rpartition(".")[2] for call in called} & {"InferenceSession", "Interpreter"}
    modules = {what for what, _ in imported(name)}
    return found | {what for what in modules if what.startswith(INTERPRETERS)}


def test_runtimes_are_opened_in_one_file() -> None:
    assert {name: found for name in FILES if (found := opens(name))} == {
        "device.runtimes": {"InferenceSession", "Interpreter"}
    }


def test_help_and_the_lower_layers_load_no_framework() -> None:
    modules = [f"edgeprune.{name}" for level in LAYERS[:4] for name in sorted(level)] + ["edgeprune.report"]
    code = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
import edgeprune.cli
sys.argv = ["edgeprune", "--help"]
try:
    edgeprune.cli.main()
except SystemExit as end:
    assert end.code == 0, end.code
print("loaded", sorted(set(sys.modules) & {FRAMEWORKS}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "loaded []"
    assert "edgeprune find" in done.stdout


@pytest.mark.parametrize("name", [*FILES, *LAB])
def test_loop_variables_say_what_they_hold(name: str) -> None:
    loops = [node.target for node in ast.walk(TREES[name]) if isinstance(node, (ast.For, ast.comprehension))]
    variables = {part.id for target in loops for part in ast.walk(target) if isinstance(part, ast.Name)}
    assert not variables & {"each", "found", "item", "thing", "elem"}


@pytest.mark.parametrize("name", [*FILES, *LAB])
def test_nothing_outgrows_its_room(name: str) -> None:
    lines = len({**FILES, **LAB}[name].read_text().splitlines())
    assert lines <= 300, f"{name} has {lines} lines"
    for node in ast.walk(TREES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{name}.{node.name} has {length} lines"
