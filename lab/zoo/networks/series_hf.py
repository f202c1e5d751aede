"""Networks of the `transformers` package for time series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf

from lab.zoo.entry import Entry, noise
from lab.zoo.wrapped import Wrapped

SERIES: dict[str, Any] = {
    "context_length": 48, "patch_length": 8, "patch_stride": 8, "num_input_channels": 3, "d_model": 32,
    "num_hidden_layers": 2, "num_layers": 2, "prediction_length": 12, "num_targets": 5, "init_std": 0.1,
}  # fmt: skip
HEADS: dict[str, Any] = {"num_attention_heads": 2, "ffn_dim": 64}


def _past(network: Any, *wanted: str) -> Entry:
    return Entry(Wrapped(network, ("past_values",), wanted), (noise(48, 3),))


def _forecast() -> Entry:
    config = hf.PatchTSTConfig(**SERIES, **HEADS, distribution_output="normal", loss="mse")
    return _past(hf.PatchTSTForPrediction(config), "prediction_outputs")


def _mixer_forecast() -> Entry:
    return _past(hf.PatchTSMixerForPrediction(hf.PatchTSMixerConfig(**SERIES)), "prediction_outputs")


NETWORKS: dict[str, Callable[[], Entry]] = {
    "patchtst-classifier": lambda: _past(
        hf.PatchTSTForClassification(hf.PatchTSTConfig(**SERIES, **HEADS, use_cls_token=True)), "prediction_logits"
    ),
    "patchtst-forecast": _forecast,
    "patchtsmixer-classifier": lambda: _past(
        hf.PatchTSMixerForTimeSeriesClassification(hf.PatchTSMixerConfig(**SERIES)), "prediction_outputs"
    ),
    "patchtsmixer-forecast": _mixer_forecast,
    "patchtsmixer-gated": lambda: _past(
        hf.PatchTSMixerForRegression(hf.PatchTSMixerConfig(**SERIES, mode="mix_channel", gated_attn=True)),
        "regression_outputs",
    ),
}
