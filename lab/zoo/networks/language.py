"""Networks that read token ids, from the `transformers` package, with small random configurations."""

from __future__ import annotations

from collections.abc import Callable

import transformers as hf
from torch import nn

from lab.zoo.entry import Entry, tokens
from lab.zoo.wrapped import Wrapped

LENGTH, VOCABULARY = 24, 200


def _bert() -> Entry:
    config = hf.BertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=64,
    )  # fmt: skip
    return _reads(hf.BertForSequenceClassification(config))


def _reads(network: nn.Module) -> Entry:
    return Entry(Wrapped(network, ("input_ids",)), (tokens(VOCABULARY, LENGTH),))


NETWORKS: dict[str, Callable[[], Entry]] = {"bert": _bert}
