"""Networks of the `transformers` package that hear: waveforms and spectrograms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf
from torch import nn

from lab.zoo.entry import Entry, noise
from lab.zoo.wrapped import DRAWN, Wrapped

SAMPLES = 800
LAYERS: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, **DRAWN,
}  # fmt: skip
EARS: dict[str, Any] = {
    **LAYERS, "conv_dim": (16, 16, 24), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "vocab_size": 20, "num_labels": 6,
    "apply_spec_augment": False, "classifier_proj_size": 32,
}  # fmt: skip


def _heard(network: nn.Module) -> Entry:
    return Entry(Wrapped(network, ("input_values",)), (noise(SAMPLES),))


def _ast() -> Entry:
    config = hf.ASTConfig(**LAYERS, num_mel_bins=32, max_length=48, num_labels=6)
    return Entry(Wrapped(hf.ASTForAudioClassification(config), ("input_values",)), (noise(48, 32),))


def _whisper() -> Entry:
    config = hf.WhisperConfig(
        num_mel_bins=20, d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64,
        max_source_positions=40, num_labels=6, classifier_proj_size=32, init_std=0.1,
    )  # fmt: skip
    network = Wrapped(hf.WhisperForAudioClassification(config), ("input_features",))
    return Entry(network, (noise(20, 80),))


def _sew() -> Entry:
    return _heard(hf.SEWForSequenceClassification(hf.SEWConfig(**EARS, squeeze_factor=2)))


def _conformer() -> Entry:
    config = hf.Wav2Vec2ConformerConfig(**EARS, conv_depthwise_kernel_size=7, position_embeddings_type="rotary")
    return _heard(hf.Wav2Vec2ConformerForCTC(config))


def _encodec() -> Entry:
    config = hf.EncodecConfig(
        num_filters=4, hidden_size=16, upsampling_ratios=[4, 2], num_lstm_layers=1, codebook_size=16, codebook_dim=16,
        norm_type="weight_norm",
    )  # fmt: skip
    return Entry(hf.EncodecModel(config).encoder, (noise(1, 320),))


def _hifigan() -> Entry:
    config = hf.SpeechT5HifiGanConfig(
        model_in_dim=16, upsample_initial_channel=32, upsample_rates=[4, 2], upsample_kernel_sizes=[8, 4],
        resblock_kernel_sizes=[3, 5], resblock_dilation_sizes=[[1, 3], [1, 3]], initializer_range=0.1,
    )  # fmt: skip
    return Entry(hf.SpeechT5HifiGan(config), (noise(24, 16),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "wav2vec2": lambda: _heard(hf.Wav2Vec2ForCTC(hf.Wav2Vec2Config(**EARS))),
    "wav2vec2-stable": lambda: _heard(
        hf.Wav2Vec2ForSequenceClassification(
            hf.Wav2Vec2Config(**EARS, do_stable_layer_norm=True, feat_extract_norm="layer")
        )
    ),
    "hubert": lambda: _heard(hf.HubertForSequenceClassification(hf.HubertConfig(**EARS))),
    "wavlm": lambda: _heard(hf.WavLMForSequenceClassification(hf.WavLMConfig(**EARS, num_buckets=16))),
    "unispeech-sat": lambda: _heard(hf.UniSpeechSatForSequenceClassification(hf.UniSpeechSatConfig(**EARS))),
    "data2vec-audio": lambda: _heard(
        hf.Data2VecAudioForSequenceClassification(hf.Data2VecAudioConfig(**{**EARS, "num_conv_pos_embeddings": 2}))
    ),
    "sew": _sew,
    "wav2vec2-conformer": _conformer,
    "ast": _ast,
    "whisper-encoder": _whisper,
    "encodec-encoder": _encodec,
    "hifigan": _hifigan,
}
