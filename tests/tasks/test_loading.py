"""Loading a task from its reference, what its hash covers, and one clear line for everything that can be wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune import tasks
from edgeprune.errors import TaskError

GOOD = """
from torch import nn
from edgeprune import Data, Recipe, Split, Task
from net import Net

def data(data_dir):
    import numbers_of_mine
    return numbers_of_mine.data()

def make():
    return Task(name="mine", model=Net, data=data, loss=None.__class__, metric=min, metric_name="least",
                optimizer=list, recipe=Recipe(iterations=1, batch_size=1))

def broken():
    return {}["key"]

def needs(argument):
    return make()

def other():
    return {"name": "mine"}

number = 3
"""
NET = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, WIDTH)

WIDTH = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task file and two neighbours; sys.path and sys.modules as before afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("net", "numbers_of_mine", "deeper_of_mine", "mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "mine.py").write_text(GOOD)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "numbers_of_mine.py").write_text(
        "import torch\nfrom edgeprune import Data, Split\n"
        "def data():\n    split = Split(torch.zeros(1, 2), torch.zeros(1))\n    return Data(split, split, split)\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(reference: str) -> str:
    with pytest.raises(TaskError) as error:
        tasks.load(reference)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_file_and_its_neighbours(folder: Path) -> None:
    for reference in ("mine.py:make", "./mine.py:make", str(folder / "mine.py") + ":make"):
        loaded = tasks.load(reference)
        assert loaded.reference == reference
        assert loaded.file == folder / "mine.py"
        assert loaded.task.name == "mine"
        assert loaded.task.model().out_features == 3
        assert len(loaded.task.data(None).train) == 1, "imports inside functions find the neighbours as well"


def test_a_module_below_the_current_folder(folder: Path) -> None:
    loaded = tasks.load("mine:make")
    assert loaded.file is None and loaded.task.name == "mine"
    (folder / "net.py").write_text(NET + "# edited\n")
    assert tasks.load("mine:make").source_sha256 != loaded.source_sha256


def test_a_module_in_a_package(folder: Path) -> None:
    (folder / "bag_of_mine" / "inner").mkdir(parents=True)
    (folder / "bag_of_mine" / "__init__.py").write_text("")
    (folder / "bag_of_mine" / "inner" / "__init__.py").write_text("")
    (folder / "bag_of_mine" / "net.py").write_text(NET)
    (folder / "bag_of_mine" / "inner" / "mine.py").write_text(GOOD.replace("from net", "from ..net"))
    first = tasks.load("bag_of_mine.inner.mine:make")
    assert first.task.model().out_features == 3
    for file in ("net.py", "__init__.py", "inner/mine.py"):
        path = folder / "bag_of_mine" / file
        text = path.read_text()
        path.write_text(text + "# edited\n")
        assert tasks.load("bag_of_mine.inner.mine:make").source_sha256 != first.source_sha256, file
        path.write_text(text)
    (folder / "net.py").write_text("# not of this package\n")
    assert tasks.load("bag_of_mine.inner.mine:make").source_sha256 == first.source_sha256


def test_the_hash_covers_file_and_neighbours_and_nothing_else(folder: Path) -> None:
    (folder / "net.py").write_text("import deeper_of_mine\n" + NET)
    (folder / "deeper_of_mine.py").write_text("")
    first = tasks.load("mine.py:make").source_sha256
    (folder / "unrelated.py").write_text("edited = True\n")
    assert tasks.load("mine.py:make").source_sha256 == first
    for name in ("mine.py", "net.py", "deeper_of_mine.py", "numbers_of_mine.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(text + "# edited\n")
        assert tasks.load("mine.py:make").source_sha256 != first, name
        (folder / name).write_text(text)
    assert tasks.load("mine.py:make").source_sha256 == first


def test_an_edited_neighbour_is_what_runs(folder: Path) -> None:
    assert tasks.load("mine.py:make").task.model().out_features == 3
    (folder / "net.py").write_text(NET.replace("WIDTH = 3", "WIDTH = 5"))
    assert tasks.load("mine.py:make").task.model().out_features == 5


def test_two_folders_with_neighbours_of_one_name(folder: Path) -> None:
    second = folder / "second"
    second.mkdir()
    (second / "mine.py").write_text(GOOD)
    (second / "net.py").write_text(NET.replace("WIDTH = 3", "WIDTH = 7"))
    first, other = tasks.load("mine.py:make"), tasks.load("second/mine.py:make")
    assert first.task.model().out_features == 3
    assert other.task.model().out_features == 7
    assert first.source_sha256 != other.source_sha256


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("mnits", "unknown task 'mnits'; did you mean mnist"),
        ("mine", "unknown task 'mine'; for a task of your own write mine.py:function"),
        ("mine.py", "task 'mine.py' names a file but no function; write mine.py:function"),
        ("mine.py:", "task 'mine.py:' is incomplete; write file.py:function"),
        ("mnie.py:make", "mnie.py; did you mean mine.py"),
        ("mine.py:mak", "mine.py has no function 'mak'; did you mean make?"),
        ("mine.py:number", "mine.py 'number' is of type int, not a function"),
        ("mine.py:broken", "task mine.py:broken failed: mine.py, line 15: KeyError: 'key'"),
        ("mine.py:needs", "task mine.py:needs failed: TypeError: needs() missing 1 required positional argument"),
        ("mine.py:other", "task mine.py:other returned dict, expected an edgeprune.Task"),
        ("no_such.module:make", "task module no_such.module does not import: ModuleNotFoundError: No module named"),
        ("sys:exit", "task sys:exit: module sys has no source file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, reference: str, line: str) -> None:
    assert line in said(reference)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "import torch\nimport no_such_package\n",
            "bad.py, line 2: ModuleNotFoundError: No module named 'no_such_package'",
        ),
        ("def make(:\n", "bad.py, line 1: SyntaxError: "),
        ("import json\njson.loads('{')\n", "bad.py, line 2: JSONDecodeError: "),
        ("import sys\n\nsys.exit(3)\n", "bad.py, line 3: SystemExit: 3"),
        ("import bad_neighbour\n", "bad_neighbour.py, line 3: ZeroDivisionError: division by zero"),
        ("raise ValueError('two\\nlines')", "bad.py, line 1: ValueError: two lines"),
        ("raise ValueError('x' * 5000)", "ValueError: " + "x" * 300 + "...;"),
    ],
)
def test_a_file_that_does_not_import(folder: Path, text: str, line: str) -> None:
    (folder / "bad.py").write_text(text)
    (folder / "bad_neighbour.py").write_text("\n\n1 / 0\n")
    message = said("bad.py:make")
    assert message.startswith(f"task file {folder / 'bad.py'} does not import: ")
    assert line in message


def test_failing_data_and_models_are_task_errors(folder: Path) -> None:
    (folder / "numbers_of_mine.py").write_text("def data():\n    return open('gone.npy')\n")
    (folder / "net.py").write_text("def Net():\n    raise RuntimeError('no such layer')\n")
    task = tasks.load("mine.py:make").task
    with pytest.raises(
        TaskError, match=r"task mine: data failed: numbers_of_mine.py, line 2: FileNotFoundError: .*gone.npy"
    ):
        task.data(None)
    with pytest.raises(TaskError, match="task mine: model failed: net.py, line 2: RuntimeError: no such layer"):
        task.model()


def test_errors_of_its_own_pass_unchanged(folder: Path) -> None:
    (folder / "mine.py").write_text(GOOD.replace("iterations=1", "iterations=0"))
    assert (
        said("mine.py:make")
        == "a recipe needs iterations, batch_size and evaluate_every of at least 1, got 0, 1 and None"
    )


def test_a_dash_is_as_good_as_an_underscore() -> None:
    assert tasks.load("mnist_cnn").reference == tasks.load("mnist-cnn").reference == "mnist-cnn"
    assert tasks.load("fashion-mnist").reference == "fashion_mnist"


def test_a_built_in_as_a_module() -> None:
    plain, module = tasks.load("mnist-cnn"), tasks.load("edgeprune.tasks.mnist:mnist_cnn")
    assert module.source_sha256 == plain.source_sha256
    assert tasks.load("digits").source_sha256 != plain.source_sha256


def test_listing_and_loading_need_no_torch() -> None:
    code = (
        "import sys, edgeprune.tasks as t; [t.load(name) for name in t.names()]; "
        "print({'torch', 'sklearn'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
