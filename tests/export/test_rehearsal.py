"""What export will refuse is told before anything is trained: all of it, with the layers that it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from torch import Tensor, nn

from edgeprune import tasks
from edgeprune.cli import tickets
from edgeprune.cli.early import check_export
from edgeprune.errors import ExportError, RefusedError
from edgeprune.export import Rehearsed, rehearse
from edgeprune.find import Problem, folder_of, prepare, sketch
from edgeprune.options import FindOptions

FILE = Path(__file__).parents[1] / "cases" / "networks.py"


def problem_of(name: str, **options: Any) -> Problem:
    chosen = {"levels": 1, "rates": (0.9,), "seeds": (1,), "threads": 1, **options}
    return prepare(tasks.load(f"{FILE}:{name}"), FindOptions(**chosen), None)


def test_an_operation_that_onnx_lacks_is_told_with_its_layer(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="--export-later") as caught:
        check_export(problem_of("inverted"), None, tmp_path)
    text = str(caught.value)
    assert "forward of Model, networks.py line" in text and "aten.linalg_inv_ex" in text and "\n" not in text
    assert caught.value.exit_code == 2 and not list(tmp_path.iterdir())


def test_what_one_runtime_refuses_is_a_warning_unless_no_other_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = problem_of("grouped_volumes")
    check_export(problem, None, tmp_path)
    told = capsys.readouterr().err
    assert "cannot be exported: litert fp32 and int8" in told and "1 (Conv3d): Conv (it has 3 spatial" in told
    assert "it can be exported: onnxruntime (fp32, int8)" in told
    target = tmp_path / "small.toml"
    target.write_text(
        'description = "x"\nconnection = "local"\n[machine]\nos = "linux"\narch = "any"\ncpu = "any"\ncores = 1\n'
        '[[runtimes]]\nname = "litert"\nprecisions = ["fp32"]\n'
    )
    with pytest.raises(ExportError, match=r"small.toml: litert fp32: .*1 \(Conv3d\)"):
        check_export(problem, str(target), tmp_path)
    folder_of(problem, tmp_path).mkdir(parents=True)
    check_export(problem, str(target), tmp_path)  # a run that has begun was checked then


@pytest.mark.parametrize(
    ("faster", "told"),
    [
        (
            (0, 0),
            "warning: with pattern unstructured nothing is predicted to run faster in litert (fp32, int8): try "
            "--pattern channel or block:1x4 or block:4x1, or a lower density (--density)\n",
        ),
        (
            (2, 0),
            "with pattern unstructured layers are predicted to run faster in litert (fp32), none in litert (int8)",
        ),
        ((2, 2), ""),
    ],
)
def test_where_the_zeros_gain_nothing_is_told(
    faster: tuple[int, int],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = [Rehearsed("litert", kind, None, count, 3) for kind, count in zip(("fp32", "int8"), faster)]
    monkeypatch.setattr("edgeprune.export.rehearse", lambda *_: results)
    check_export(problem_of("together"), None, tmp_path)
    said = capsys.readouterr().err
    assert told in said and ("faster" in said) == bool(told)


@pytest.mark.parametrize(
    ("pattern", "target", "step"),
    [
        ("unstructured", "rpi4", "--pattern channel or block:1x4 or block:4x1\n"),
        ("block:4x1", "rpi4", "--pattern channel or block:1x4, or a lower density (--density)\n"),
        ("channel", None, "--pattern block:1x4 or block:4x1 or unstructured, or a lower density (--density)\n"),
        ("2:4", None, "--pattern channel or block:1x4 or block:4x1 or unstructured\n"),  # which cannot go lower
    ],
)
def test_the_step_that_may_gain_something_is_one_that_the_target_has(
    pattern: str, target: Optional[str], step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("edgeprune.export.rehearse", lambda *_: [Rehearsed("litert", "fp32", None, 0, 3)])
    rates = () if pattern == "2:4" else (0.9,)
    problem = problem_of("together", pattern=pattern, levels=1 if rates else None, rates=rates)
    check_export(problem, target, tmp_path)
    assert f"faster in litert (fp32): try {step}" in capsys.readouterr().err


def test_a_sketch_has_the_zeros_of_the_last_level_and_leaves_chance_alone() -> None:
    problem = problem_of("unsqueezed", pattern="block:1x4")
    before = torch.random.get_rng_state()
    model, masks = sketch(problem)
    assert torch.equal(torch.random.get_rng_state(), before)
    alive, total = sum(int(mask.sum()) for mask in masks.values()), sum(mask.size for mask in masks.values())
    assert alive / total == pytest.approx(0.1, abs=0.02)
    for name, parameter in model.named_parameters():
        if name in masks:
            assert ((parameter.detach() != 0).numpy() == masks[name]).all()


def rehearsed(forward: Callable[[nn.Module, Tensor], Any]) -> list[Any]:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            return forward(self.layer, x)

    torch.manual_seed(0)
    cells = [("any", runtime, "fp32") for runtime in ("onnxruntime", "litert")]
    return list(rehearse(Own().eval(), {}, torch.randn(8, 8), False, cells))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda layer, x: layer(x * float(x[0, 0])), "depends on the other examples of its batch"),
        (lambda layer, x: layer(x - x.mean(0)), "depends on the other examples of its batch"),
        (
            lambda layer, x: layer(torch.dropout(x, 0.5, True)),
            "differs from call to call in evaluation mode; draw random numbers in training",
        ),
        (lambda layer, x: layer(x) if x.sum() > 0 else -layer(x), "depends on the other examples of its batch"),
        (lambda layer, x: torch.stack([layer(row) for row in x]), "batches of 2 only"),
        (lambda layer, x: layer(x) + torch.zeros(len(x), 4), "batches of 2 only"),
    ],
    ids=["value", "mean", "chance", "branch", "loop", "length"],
)
def test_what_cannot_work_has_a_line_of_its_own(forward: Callable[[nn.Module, Tensor], Any], message: str) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        rehearsed(forward)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "forward",
    [
        lambda layer, x: (layer(x), x),
        lambda layer, x: (lambda y: (y, y))(layer(x)),
        lambda layer, x: [layer(x), layer(x)[:, :1]],
        lambda layer, x: layer(x) if layer.training else 2 * layer(x),
        lambda layer, x: layer(x.clone().mul_(2).clamp_(-1, 1)),
        lambda layer, x: layer(x).argmax(1),
        lambda layer, x: (layer(x), layer(x) > 0),
    ],
    ids=["input", "twice", "list", "mode", "in place", "integer", "bool"],
)
def test_what_looks_odd_and_works(forward: Callable[[nn.Module, Tensor], Any]) -> None:
    assert [each.error for each in rehearsed(forward)] == [None, None]


def test_the_command_stops_early_or_goes_on_regardless(tmp_path: Path) -> None:
    arguments = [f"{FILE}:inverted", "--levels", "1", "--seeds", "1", "--threads", "1", "--out", str(tmp_path)]
    with pytest.raises(RefusedError):
        tickets.find.main(arguments, standalone_mode=False)
    assert not list(tmp_path.iterdir())
    tickets.find.main([*arguments, "--export-later"], standalone_mode=False)
    assert list(tmp_path.glob("tickets/*/ticket.json"))
