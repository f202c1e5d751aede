"""What makes a ticket the same ticket: source, data, every file that the code reads, and the weights it starts from."""

from __future__ import annotations

import re
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeprune import tasks
from edgeprune.errors import TaskError, TicketError
from edgeprune.export.network import reload_data, reload_task
from edgeprune.find import find_levels, prepare
from edgeprune.options import FindOptions

TASK = """
import copy, json, mmap, os, pathlib, sqlite3, zipfile
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from edgeprune import Data, Recipe, Split, Task

HERE = pathlib.Path(__file__).parent


def split(count, seed):
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return Split(inputs, inputs[:, :3].argmax(1))


def data(folder):
    return Data(split(40, 1), split(20, 2), split(20, 3))


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def given():
    model = network()
    model.load_state_dict(torch.load(HERE / "weights.pt"))
    return model


def rust():
    from safetensors.torch import load_file

    model = network()
    model.load_state_dict(load_file(HERE / "weights.safetensors"))
    return model


def read_by_open():
    (HERE / "extra.bin").read_bytes()
    return network()


def read_by_os():
    os.close(os.open(HERE / "extra.bin", os.O_RDONLY))
    return network()


def read_by_mmap():
    np.load(HERE / "extra.npy", mmap_mode="r")
    return network()


def read_by_zip():
    zipfile.ZipFile(HERE / "extra.zip").close()
    return network()


def read_by_sqlite():
    sqlite3.connect(HERE / "extra.db").close()
    return network()


def read_by_import():
    import importlib

    importlib.import_module("dynamic" + "_neighbour")
    return network()


ONE = network()
TOKEN = torch.arange(6.0)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.layer = nn.Parameter(TOKEN.clone()), nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x + self.token)


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.head = ONE, nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.trunk(x))


def task(model):
    return Task(
        name="given", model=model, data=data, loss=cross_entropy, metric_name="accuracy",
        metric=lambda outputs, targets: float((outputs.argmax(1) == targets).mean()),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        recipe=Recipe(iterations=4, batch_size=20, rate=0.5, evaluate_every=2),
    )


def make(): return task(network)
def with_given(): return task(given)
def with_rust(): return task(rust)
def with_open(): return task(read_by_open)
def with_os(): return task(read_by_os)
def with_mmap(): return task(read_by_mmap)
def with_zip(): return task(read_by_zip)
def with_sqlite(): return task(read_by_sqlite)
def with_import(): return task(read_by_import)
def with_one(): return task(lambda: ONE)
def with_wrapped(): return task(Wrapped)
def with_copy(): return task(lambda: copy.deepcopy(ONE))
def with_tokens(): return task(Tokens)
"""


def weights(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).state_dict()


def write_extras(folder, number):
    (folder / "extra.bin").write_bytes(bytes([number]))
    np.save(folder / "extra.npy", np.array([number]))
    import zipfile

    with zipfile.ZipFile(folder / "extra.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("number"), str(number))
    (folder / "extra.db").unlink(missing_ok=True)
    with sqlite3.connect(folder / "extra.db") as base:
        base.execute(f"create table number_{number} (n int)")
    base.close()
    (folder / "dynamic_neighbour.py").write_text(f"NUMBER = {number}\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "given.py").write_text(TASK)
    torch.save(weights(1), tmp_path / "weights.pt")
    save_file(weights(1), tmp_path / "weights.safetensors")
    write_extras(tmp_path, 1)
    return tmp_path


def problem(folder, function, seeds=(1, 2)):
    sys.modules.pop("dynamic_neighbour", None)
    return prepare(tasks.load(f"{folder / 'given.py'}:{function}"), FindOptions(levels=1, seeds=seeds), None)


def ticket(found, out):
    return list(find_levels(found, out))[-1].ticket


@pytest.mark.parametrize("way", ["open", "os", "mmap", "zip", "sqlite", "import"])
def test_a_file_that_the_code_reads_is_part_of_the_identity(folder, way):
    first, again = (problem(folder, f"with_{way}").spec.id for _ in range(2))
    write_extras(folder, 2)
    assert first == again != problem(folder, f"with_{way}").spec.id


def test_other_weights_make_another_ticket_however_they_were_read(folder):
    from safetensors.torch import save_file

    before = {function: problem(folder, function).spec.id for function in ("with_given", "with_rust")}
    torch.save(weights(2), folder / "weights.pt")
    save_file(weights(2), folder / "weights.safetensors")
    for function, first in before.items():
        assert problem(folder, function).spec.id != first, function


def test_data_files_count_and_libraries_own_files_do_not(folder):
    path = folder / "given.py"
    reading = "def data(folder):\n    import wave, sklearn.datasets\n    (HERE / 'table.csv').read_text()\n"
    path.write_text(TASK.replace("def data(folder):\n", reading))
    (folder / "table.csv").write_text("1,2\n")
    files = problem(folder, "make").spec.files
    assert list(files) == ["data/table.csv"]
    (folder / "table.csv").write_text("1,3\n")
    assert problem(folder, "make").spec.files != files


def test_a_task_that_reads_nothing_and_starts_afresh_keeps_the_id_that_it_had(folder):
    spec = problem(folder, "make").spec
    assert spec.files == {} and spec.weights_sha256 == ""


def test_given_weights_are_said_and_the_control_is_random(folder, tmp_path):
    found = problem(folder, "with_given")
    assert found.origin.given == {"0.weight", "0.bias", "2.weight", "2.bias"} and not found.no_reinit
    made = ticket(found, tmp_path / "out")
    assert made.verdict.controls["random reinit"] == "run"
    for seed in (1, 2):
        assert np.array_equal(made.weights(seed, "rewind")["0.weight"], weights(1)["0.weight"].numpy())
        assert abs(made.weights(seed, "reinit")["0.weight"] - made.weights(seed)["0.weight"]).max() > 0.05
    assert abs(made.weights(1, "reinit")["0.weight"] - made.weights(2, "reinit")["0.weight"]).max() > 0.05


def test_weights_that_no_layer_can_reset_make_the_control_impossible(folder, tmp_path):
    made = ticket(problem(folder, "with_tokens"), tmp_path / "out")
    assert made.verdict.controls["random reinit"].startswith("not possible: token is given")
    assert all(record.reinit_validation is None and "reinit" not in record.test for record in made.seeds)


@pytest.mark.parametrize(("function", "what"), [("with_one", "the same network"), ("with_wrapped", "the same trunk.0")])
def test_a_network_that_is_the_same_on_every_call_is_refused(folder, function, what):
    with pytest.raises(TaskError, match=f"returns {what}.* trained weights would leak"):
        problem(folder, function)


def test_a_copy_of_one_network_is_given_weights(folder):
    assert len(problem(folder, "with_copy").origin.given) == 4


def test_export_reads_the_data_where_find_did_unless_told_otherwise(folder, tmp_path, monkeypatch):
    path, other = folder / "given.py", tmp_path / "elsewhere"
    reading = "def data(folder):\n    (folder / 'extra.bin').read_bytes()\n"
    path.write_text(TASK.replace("def data(folder):\n", reading))
    monkeypatch.chdir(folder.parent)
    loaded = tasks.load(f"{path}:make")
    made = ticket(prepare(loaded, FindOptions(levels=1, seeds=(1,)), Path(folder.name)), tmp_path / "out")
    monkeypatch.chdir("/")
    assert made.data_dir == str(folder) and len(reload_data(made, loaded.task, None).train) == 40
    with pytest.raises(TaskError, match="FileNotFoundError"):
        reload_data(made, loaded.task, other)

    folder.rename(folder.parent / "moved")
    with pytest.raises(TicketError, match=rf"read from {folder}, which is no folder now: .*FileNotFound.*--data-dir"):
        reload_data(made, loaded.task, None)


def test_data_that_differ_come_with_the_step_that_helps(folder, tmp_path):
    def differ(given, **changes):
        made = replace(found, spec=replace(found.spec, data_sha256="0" * 64, **changes.pop("spec", {})), **changes)
        with pytest.raises(TicketError, match=r"the data of task \w+.* differ from those that ticket ") as caught:
            reload_data(made, task, given)
        return str(caught.value).partition("was found on; ")[2], caught.value.message

    found = ticket(problem(folder, "make", seeds=(1,)), tmp_path / "out")
    task = reload_task(found)
    there = str(tmp_path)
    assert differ(None)[0] == (
        "let the task read the same files as then and draw random data from a fixed seed, or find the ticket again"
    )
    assert differ(None, spec={"task": "digits"})[0].startswith(
        "point $EDGEPRUNE_DATA or --data-dir at the same files, "
    )
    hint, message = differ(None, data_dir=there)
    assert hint.startswith("put the same files back there, ") and f" in {there} differ" in message
    hint, message = differ(folder, data_dir=there)
    assert hint.startswith(f"leave --data-dir out (they were read from {there}), or ") and f" in {folder} " in message
    assert differ(folder)[0].startswith("leave --data-dir out (find was given none), or ")


def test_data_that_are_drawn_at_random_are_the_same_in_export(folder, tmp_path):
    path = folder / "given.py"
    drawn = "def split(count, seed):\n    inputs = torch.randn(count, 6) + float(np.random.rand())\n"
    path.write_text(re.sub(r"def split.*\n.*\n", drawn, TASK))
    made = ticket(problem(folder, "make", seeds=(1,)), tmp_path / "out")
    task, before = reload_task(made), torch.random.get_rng_state()
    assert len(reload_data(made, task, None).train) == 40
    assert torch.equal(torch.random.get_rng_state(), before)


def test_export_refuses_a_task_whose_files_changed(folder, tmp_path):
    made = ticket(problem(folder, "with_open", seeds=(1,)), tmp_path / "out")
    reload_task(made)
    write_extras(folder, 2)
    with pytest.raises(TicketError, match=r"extra.bin, which .* reads, has changed"):
        reload_task(made)
