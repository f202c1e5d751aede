"""edgeprune.load: from several threads, and with inputs that are not the model's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprune
from edgeprune import ExportError
from edgeprune.artifact import Port, to_file_layout, to_torch_layout, torch_shape
from edgeprune.runtimes import LoadedModel
from tests.bench.conftest import INPUTS, forward, make_bundle

THREADS, CALLS = 8, 1000


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_eight_threads_get_their_own_answers(runtime: str, tmp_path: Path) -> None:
    model = edgeprune.load(make_bundle(tmp_path / "b", runtime=runtime).path)
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(THREADS * CALLS, 1, INPUTS)).astype(np.float32)
    expected = forward(inputs[:, 0], 16)

    def work(first: int) -> int:
        numbers = range(first, len(inputs), THREADS)
        return sum(abs(model(inputs[number])[0] - expected[number]).max() > 1e-4 for number in numbers)

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(work, range(THREADS))) == 0


@pytest.fixture(scope="module", params=["onnxruntime", "litert"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return edgeprune.load(str(make_bundle(tmp_path_factory.mktemp("load") / "b", runtime=request.param).path))


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (np.zeros((1, 7), np.float32), r"model b takes float32 \[n, 8\], got \[1, 7\]"),
        (
            np.zeros(8, np.float32),
            r"takes float32 \[n, 8\], got \[8\]; a single example needs a batch of one: x\[None\]",
        ),
        (np.float32(1), r"got \[\]"),
        (np.zeros((1, 8), np.complex64), r"got complex64; convert it: x.astype\('float32'\)"),
        ([["a"] * 8], "got <U1"),
        ([[1.0], [2.0, 3.0]], "got what is no array"),
        (None, r"got \[\]"),
    ],
    ids=str,
)
def test_a_wrong_input_gives_one_line(model: LoadedModel, batch: Any, says: str) -> None:
    with pytest.raises(ExportError, match=says) as caught:
        model(batch)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize("make", [np.float64, np.float16, np.int64, np.uint8, list])
def test_numbers_that_fit_are_converted(model: LoadedModel, make: Callable[[Any], Any]) -> None:
    batch = np.arange(2 * INPUTS).reshape(2, INPUTS)
    given = batch.tolist() if make is list else batch.astype(make)
    np.testing.assert_allclose(model(given), forward(batch.astype(np.float32), 16), rtol=1e-4)


def test_an_empty_batch_has_empty_outputs(model: LoadedModel) -> None:
    assert model(np.zeros((0, INPUTS), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("threads", [0, -1, "2", None])
def test_threads_are_a_number(tmp_path: Path, threads: Any) -> None:
    with pytest.raises(ExportError, match="threads: expected a whole number of 1 or more"):
        edgeprune.load(tmp_path, threads)


@pytest.mark.parametrize(("layout", "shape"), [("NHWC", (-1, 5, 6, 3)), ("NLC", (1, 5, 3)), ("NCHW", (2, 3, 4, 5))])
def test_a_ports_shape_is_told_in_the_callers_layout(layout: str, shape: tuple[int, ...]) -> None:
    port = Port("x", shape, "float32", layout)
    batch = np.zeros((2, *torch_shape(port)[1:]), np.float32)
    assert to_file_layout(batch, port).shape[1:] == shape[1:]
    assert to_torch_layout(to_file_layout(batch, port), port).shape == batch.shape


def test_a_wrong_shape_is_told_as_the_caller_gave_it(tmp_path: Path) -> None:
    """The file's layout is none of the caller's business."""
    artifact = make_bundle(tmp_path / "b", runtime="litert")
    pictures = Port("input", (-1, 8, 9, 3), "float32", "NHWC")
    model = LoadedModel(edgeprune.Artifact(**{**vars(artifact), "inputs": (pictures,)}), lambda array: [array])
    with pytest.raises(ExportError, match=r"takes float32 \[n, 3, 8, 9\], got \[1, 3, 9, 8\]"):
        model(np.zeros((1, 3, 9, 8), np.float32))
