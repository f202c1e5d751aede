"""Dead channels leave the network physically, and its outputs stay exactly what they were."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from edgeprune.export.cuts import Cut, Plan, layers_by_weight, plan_cuts
from edgeprune.export.shorten import Masks, row_axis, shorten
from edgeprune.export.standins import Double, wider
from edgeprune.task import Inputs, tuple_of

BoolArray = NDArray[np.bool_]
Masked = tuple[nn.Module, Masks]
TOLERANCE = 1e-9
# A round takes about as long as the network on 40 examples; this many seconds after the first, no further one begins.
LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class Shrunk:
    """model: without its dead channels, float32. masks: in the shapes that are left. removed: layer -> output channels
    (units of each direction, heads) that went, layers that lost none left out. weights_removed: of the masked tensors.
    notes: what was kept though it is dead, and why, one sentence each."""

    model: nn.Module
    masks: dict[str, BoolArray]
    removed: dict[str, int]
    weights_removed: int
    notes: tuple[str, ...]


def shrink(model: nn.Module, masks: Mapping[str, BoolArray], example: Inputs, together: int = 1) -> Shrunk:
    """Remove every channel that can go exactly; the argument is not changed.

    model: in eval mode, its masked weights zero. masks: parameter name -> True where the weight survives. example: two
    real ones [2, ...] of each input. A channel goes if each layer that reads it has zero weights for it, or sees a
    constant, in every place and for every input, that folds into its bias: any constant in a linear layer and in a
    convolution without zero padding, 0 anywhere. At least one channel stays in each layer. This repeats until nothing
    changes, and what makes the outputs differ by more than 1e-9 of their scale in float64 is undone. A network that
    cannot be followed comes back whole, with a note. together: channels go in aligned groups of so many, or stay.
    """
    work = copy.deepcopy(model).eval().double().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for parameter in work.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    left: Masks = {name: torch.from_numpy(masks[name]) for name, _ in work.named_parameters() if name in masks}
    refused: dict[str, str] = {}
    began = time.monotonic()
    try:
        probes = _probes(tuple_of(example))
        expected = _outputs(work, probes)
        while (plan := plan_cuts(work, probes[0], refused, together)).cuts:
            if time.monotonic() - began > LIMIT_SECONDS:
                refused = dict.fromkeys([*refused, *(cut.root for cut in plan.cuts)], "the time for it ran out")
                continue
            work, left = _apply_exactly(
                (work, left), plan.cuts, lambda trial: _equal(_outputs(trial, probes), expected), refused
            )
    except Exception as problem:  # noqa: BLE001
        # Whatever the network's own code raises where its values are followed: the network as it is will do.
        reason = (str(problem).splitlines() or [""])[0]
        note = f"no channel was removed: the network cannot be followed ({type(problem).__name__}: {reason})"
        return Shrunk(copy.deepcopy(model), dict(masks), {}, 0, (note,))
    return _finish(model, work, masks, left, plan)


def _probes(example: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """Two batches of each input in float64: the real ones and noise (integers: the real ones in another order)."""
    generator = torch.Generator().manual_seed(0)

    def other(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor.flip(0).contiguous()
        return 3 * (tensor.std() + 1) * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    real = tuple(wider(tensor).contiguous() for tensor in example)
    return [real, tuple(map(other, real))]


def _outputs(model: nn.Module, probes: Iterable[tuple[Tensor, ...]]) -> list[Tensor]:
    with torch.no_grad(), Double():  # type: ignore[no-untyped-call]
        made = (model(*(tensor.clone() for tensor in probe)) for probe in probes)
        return [leaf.double() for outputs in made for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _equal(got: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return len(got) == len(expected) and all(
        a.shape == b.shape and bool((a - b).abs().max() <= TOLERANCE * b.abs().max())
        for a, b in zip(got, expected, strict=True)
    )


def _apply_exactly(
    masked: Masked, cuts: Sequence[Cut], is_exact: Callable[[nn.Module], bool], refused: dict[str, str]
) -> Masked:
    """The model and its masks after all the cuts or, if that changes its outputs, after those that do not; the others
    are noted in `refused` under the layer they start from."""
    shrunk = _try(masked, cuts, is_exact)
    if shrunk is not None:
        return shrunk
    kept: list[Cut] = []
    shrunk = masked
    for cut in cuts:
        trial = _try(masked, [*kept, cut], is_exact)
        if trial is None:
            refused[cut.root] = "removing it would change the outputs"
        else:
            kept, shrunk = [*kept, cut], trial
    return shrunk


def _try(masked: Masked, cuts: Sequence[Cut], is_exact: Callable[[nn.Module], bool]) -> Masked | None:
    try:
        trial = shorten(*masked, cuts)
        return trial if is_exact(trial[0]) else None
    except Exception:  # noqa: BLE001
        # The network's own code may count on a number of channels, and raise whatever it likes without them.
        return None


def _finish(model: nn.Module, work: nn.Module, masks: Mapping[str, BoolArray], masks_left: Masks, plan: Plan) -> Shrunk:
    left = {name: mask.numpy() for name, mask in masks_left.items()}
    removed = {}
    for name, layer in work.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)):
            gone = _outputs_of(model.get_submodule(name)) - _outputs_of(layer)
            if gone:
                removed[name] = gone
    weights_removed = sum(masks[name].size - mask.size for name, mask in left.items())
    return Shrunk(work.float(), left, removed, weights_removed, tuple(_dead(work, left, plan)))


def _dead(model: nn.Module, masks: Mapping[str, BoolArray], plan: Plan) -> Iterable[str]:
    """A sentence for each layer that keeps channels without a weight, with their number and why they stay."""
    for name, layers in layers_by_weight(model).items():
        path, layer = layers[0]
        if name not in masks or name not in plan.makes:
            continue
        rows = np.moveaxis(masks[name], row_axis(layer), 0)
        if len(rows) != len(plan.makes[name]):
            continue  # a grouped transposed convolution, which is never cut
        dead = plan.makes[name][~rows.reshape(len(rows), -1).any(1)].tolist()
        for why, count in Counter(plan.stays[group] for group in dead if group in plan.stays).items():
            yield f"{path}: {count} dead {'channels stay' if count > 1 else 'channel stays'}: {why}"


def _outputs_of(layer: nn.Module) -> int:
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        return int(layer.hidden_size)
    if isinstance(layer, nn.MultiheadAttention):
        return int(layer.num_heads)
    channels = layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features
    return int(channels)  # type: ignore[arg-type]
