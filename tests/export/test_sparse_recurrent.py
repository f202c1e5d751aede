"""Recurrent layers of a ticket in the library's operators: what they give, their zeros in the file, and which stay."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeprune import kernels
from edgeprune.errors import VerificationError
from edgeprune.export.calibrate import calibrate
from edgeprune.export.certificate import certify
from edgeprune.export.files import ModelFile, SparseKernels, write_onnx
from edgeprune.export.forecast import forecast
from edgeprune.export.quantize import quantize
from edgeprune.export.reading import read_graph
from edgeprune.export.sparse.layers import find_layers
from edgeprune.export.sparse.weighing import weigh_network
from edgeprune.kernels import costs
from edgeprune.kernels.profile import read_owners
from tests.export.sparse_graphs import Eager
from tests.export.test_recurrent_weights import LAYERS, pruned

LIBRARY = kernels.library(platform.machine())
EAGER = SparseKernels(LIBRARY, Eager())


def run(file: ModelFile, inputs: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(LIBRARY))
    session = onnxruntime.InferenceSession(file.data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: inputs}))


def operators(file: ModelFile) -> list[str]:
    nodes = onnx.load_from_string(file.data).graph.node
    return [node.op_type for node in nodes if node.domain == kernels.DOMAIN]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_what_pytorchs_do_and_keep_their_zeros(name: str, tmp_path: Path) -> None:
    model, masks, traced, _ = pruned(LAYERS[name])
    inputs = torch.randn(3, 6, model.layer.input_size, generator=torch.Generator().manual_seed(6))
    file = write_onnx(traced.graph, traced, EAGER)
    kind = type(model.layer).__name__
    assert operators(file) == [f"Sparse{kind}"] * model.layer.num_layers
    assert file.library == LIBRARY and {(layer.op, layer.kernel) for layer in file.layers} == {(kind, "sparse")}
    with torch.no_grad():
        for got, wanted in zip(run(file, inputs.numpy()), model(inputs)):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=1e-5)
    assert not any(zeros.lost for zeros in certify(file.stored, masks, file.places).values())
    for parameter, mask in masks.items():
        names, pick = file.places[parameter]
        np.testing.assert_array_equal(pick(file.stored), model.get_parameter(parameter).detach().numpy())
        lost = mask.copy()
        lost[np.unravel_index(int(mask.argmax()), mask.shape)] = False
        with pytest.raises(VerificationError, match=f"1 of .* zeros of tensor {parameter} were lost"):
            certify(file.stored, {parameter: lost}, file.places)
    (tmp_path / "model.onnx").write_bytes(file.data)
    owners = read_owners(tmp_path / "model.onnx").nodes
    assert {layer.name for layer in file.layers} <= set(owners.values())


def test_in_int8_the_layer_is_the_same_float_operator() -> None:
    model, masks, traced, _ = pruned(LAYERS["LSTM in two layers, both ways"])
    inputs = torch.randn(16, 6, model.layer.input_size, generator=torch.Generator().manual_seed(5))
    graph = quantize(traced.graph, calibrate(traced.graph, inputs.numpy(), "minmax"))
    sparse, dense = (write_onnx(graph, traced, wanted) for wanted in (EAGER, ""))
    assert operators(sparse) == ["SparseLSTM"] * 2 and operators(dense) == []
    assert not any(zeros.lost for zeros in certify(sparse.stored, masks, sparse.places).values())
    for mine, theirs in zip(run(sparse, inputs.numpy()), run(dense, inputs.numpy())):
        step = np.unique(np.abs(theirs[theirs != 0])).min()
        assert np.abs(mine - theirs).max() <= 1.01 * step  # a value between two of the grid's may fall to either
    with torch.no_grad():
        wanted = model(inputs)[0].numpy()
    error = run(sparse, inputs.numpy())[0] - wanted
    assert 10 * np.log10(np.mean(wanted**2) / np.mean(error**2)) >= 20


def one_layer(kind: str, extra: tuple[str, ...] = (), state: int = 8, **attributes: Any) -> onnx.ModelProto:
    gates, random = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], np.random.default_rng(0)
    shapes = {"w": (1, gates * 8, 5), "r": (1, gates * 8, state), "b": (1, gates * 16), "p": (1, 24)}
    constants = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    constants.append(numpy_helper.from_array(np.full(2, 6, np.int32), "lengths"))
    node = helper.make_node(kind, ["x", "w", "r", "b", *extra], ["y"], hidden_size=8, **attributes)
    graph = helper.make_graph(
        [node], "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6, 2, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 1, 2, 8])], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: one_layer("LSTM", state=5), "its state is projected"),
        (lambda: one_layer("LSTM", ("lengths",)), "its examples may have different numbers of steps"),
        (lambda: one_layer("LSTM", ("", "", "", "p")), "its gates look at the cell's state"),
        (lambda: one_layer("GRU", clip=1.0), "it is asked for clip"),
        (lambda: one_layer("LSTM", input_forget=1), "it is asked for input_forget"),
        (lambda: one_layer("GRU", activations=["HardSigmoid", "Tanh"]), "its activations are not the usual ones"),
        (lambda: one_layer("RNN", activations=["Softsign"]), "its activations are not the usual ones"),
        (lambda: one_layer("RNN", activations=["Relu"]), ""),
        (lambda: one_layer("LSTM", direction="reverse"), ""),
    ],
)  # fmt: skip
def test_what_the_kernels_do_not_know_stays_with_the_runtime(model: Callable[[], onnx.ModelProto], reason: str) -> None:
    graph = read_graph(model())
    (layer,) = find_layers(graph)
    assert layer.refusal == reason
    weighing = weigh_network(graph, Eager(), {})
    assert {node.type for node in weighing.draft.finish().nodes} == (
        {graph.nodes[0].type} if reason else {f"Sparse{graph.nodes[0].type}"}
    )
    assert weigh_network(graph, costs.load("x86_64"), {}).dense_ns[layer.name] > 0


class Last(nn.Module):
    """A recurrent layer read at its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(32, 128, batch_first=True), nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.out(self.rnn(x)[0][:, -1])
        return y


def test_a_forecast_knows_what_zeros_would_gain() -> None:
    torch.manual_seed(0)
    weights = {"rnn.weight_ih_l0": 1.0, "rnn.weight_hh_l0": 1.0, "out.weight": 1.0}
    cells = [("x86_64", "onnxruntime", precision) for precision in ("fp32", "int8")]
    for forecasted in forecast(Last().eval(), weights, torch.randn(4, 30, 32), cells):
        (layer, _) = forecasted.layers
        assert (layer.op, layer.shape) == ("GRU", (384, 160)) and layer.share > 0.9 and not layer.blocked
        gains = layer.gains["unstructured"]
        assert gains[0] < gains[2] < gains[3] and forecasted.gains["unstructured"][2] > 2
