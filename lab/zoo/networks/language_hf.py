"""Networks of the `transformers` package that read token ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import nn

from lab.zoo.entry import EXAMPLES, Entry, tokens
from lab.zoo.wrapped import DRAWN, Wrapped

LENGTH, WORDS = 24, 200
PLAIN: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96,
    "max_position_embeddings": 64, "num_labels": 4, **DRAWN,
}  # fmt: skip
DECODER: dict[str, Any] = {**PLAIN, "num_key_value_heads": 1, "pad_token_id": 0, "use_cache": False}
LAST = "last_hidden_state"


def _reads(network: nn.Module, *wanted: str, **fixed: Any) -> Entry:
    # Two is above the ids of padding, so that no position is left out.
    return Entry(Wrapped(network, ("input_ids",), wanted, **fixed), (2 + tokens(WORDS - 2, LENGTH),))


def _padded() -> Entry:
    """With the mask of a batch whose sentences differ in length."""
    network = Wrapped(hf.BertForSequenceClassification(hf.BertConfig(**PLAIN)), ("input_ids", "attention_mask"))
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (EXAMPLES, 1))
    return Entry(network, (tokens(WORDS, LENGTH), (torch.arange(LENGTH) < lengths).long()))


def _pairs() -> Entry:
    """With the segments of two sentences."""
    network = Wrapped(hf.BertForNextSentencePrediction(hf.BertConfig(**PLAIN)), ("input_ids", "token_type_ids"))
    second = torch.arange(LENGTH) >= torch.randint(4, LENGTH - 4, (EXAMPLES, 1))
    return Entry(network, (tokens(WORDS, LENGTH), second.long()))


def _albert() -> Entry:
    return _reads(hf.AlbertForSequenceClassification(hf.AlbertConfig(**PLAIN, embedding_size=24)))


def _distilbert() -> Entry:
    config = hf.DistilBertConfig(
        vocab_size=WORDS,
        dim=48,
        n_layers=2,
        n_heads=3,
        hidden_dim=96,
        max_position_embeddings=64,
        num_labels=4,
        **DRAWN,
    )
    return _reads(hf.DistilBertForSequenceClassification(config))


def _mobilebert() -> Entry:
    config = hf.MobileBertConfig(
        **{**PLAIN, "num_attention_heads": 2}, embedding_size=24, intra_bottleneck_size=32, num_feedforward_networks=2
    )
    return _reads(hf.MobileBertForSequenceClassification(config))


def _squeezebert() -> Entry:
    config = hf.SqueezeBertConfig(**{**PLAIN, "num_attention_heads": 4}, embedding_size=48)
    return _reads(hf.SqueezeBertForSequenceClassification(config))


def _funnel() -> Entry:
    config = hf.FunnelConfig(
        vocab_size=WORDS,
        block_sizes=[1, 1],
        d_model=48,
        n_head=3,
        d_head=16,
        d_inner=96,
        num_labels=4,
        num_decoder_layers=1,
    )
    return _reads(hf.FunnelBaseModel(config))


def _convbert() -> Entry:
    config = hf.ConvBertConfig(
        **{**PLAIN, "num_attention_heads": 4}, embedding_size=24, head_ratio=2, conv_kernel_size=5
    )
    return _reads(hf.ConvBertForSequenceClassification(config))


def _fnet() -> Entry:
    plain = {name: value for name, value in PLAIN.items() if name != "num_attention_heads"}
    return _reads(hf.FNetForSequenceClassification(hf.FNetConfig(**plain)))


def _deberta() -> Entry:
    config = hf.DebertaV2Config(
        **PLAIN, relative_attention=True, position_buckets=8, pos_att_type=["c2p", "p2c"], norm_rel_ebd="layer_norm",
        share_att_key=True, max_relative_positions=16,
    )  # fmt: skip
    return _reads(hf.DebertaV2ForSequenceClassification(config))


def _xlnet() -> Entry:
    config = hf.XLNetConfig(vocab_size=WORDS, d_model=48, n_layer=2, n_head=3, d_inner=96, num_labels=4, **DRAWN)
    return _reads(hf.XLNetForSequenceClassification(config), "logits", use_mems=False)


def _nystromformer() -> Entry:
    """With the mask as its attention wants it: one that the package makes while it is traced has a row for each token,
    though there are fewer landmarks."""
    config = hf.NystromformerConfig(**PLAIN, num_landmarks=6, segment_means_seq_len=LENGTH, conv_kernel_size=5)
    network = hf.NystromformerForSequenceClassification(config)
    return _reads(network, attention_mask=torch.zeros(1, 1, 1, LENGTH))


def _modernbert() -> Entry:
    config = hf.ModernBertConfig(
        **PLAIN, pad_token_id=0, global_attn_every_n_layers=2, local_attention=8, bos_token_id=1, eos_token_id=1,
        cls_token_id=1, sep_token_id=1,
    )  # fmt: skip
    return _reads(hf.ModernBertForSequenceClassification(config))


def _t5() -> Entry:
    config = hf.T5Config(
        vocab_size=WORDS, d_model=48, d_kv=16, d_ff=96, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
    )
    return _reads(hf.T5EncoderModel(config), LAST)


def _bart() -> Entry:
    """Encoder and decoder, each with token ids of its own."""
    config = hf.BartConfig(
        vocab_size=WORDS, d_model=48, encoder_layers=1, decoder_layers=1, encoder_attention_heads=3,
        decoder_attention_heads=3, encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=64, use_cache=False,
        init_std=0.1,
    )  # fmt: skip
    network = Wrapped(hf.BartModel(config), ("input_ids", "decoder_input_ids"), (LAST,))
    return Entry(network, (2 + tokens(WORDS - 2, LENGTH), 2 + tokens(WORDS - 2, 12)))


def _gpt2() -> Entry:
    config = hf.GPT2Config(vocab_size=WORDS, n_positions=64, n_embd=48, n_layer=2, n_head=3, use_cache=False, **DRAWN)
    return _reads(hf.GPT2LMHeadModel(config))


def _opt() -> Entry:
    config = hf.OPTConfig(
        vocab_size=WORDS, hidden_size=48, num_hidden_layers=2, ffn_dim=96, num_attention_heads=3,
        word_embed_proj_dim=48,
        max_position_embeddings=64, use_cache=False, init_std=0.1,
    )  # fmt: skip
    return _reads(hf.OPTForCausalLM(config))


def _bloom() -> Entry:
    config = hf.BloomConfig(vocab_size=WORDS, hidden_size=48, n_layer=2, n_head=3, use_cache=False, **DRAWN)
    return _reads(hf.BloomForCausalLM(config))


def _falcon() -> Entry:
    config = hf.FalconConfig(
        vocab_size=WORDS, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, ffn_hidden_size=96,
        use_cache=False,
        max_position_embeddings=64, **DRAWN,
    )  # fmt: skip
    return _reads(hf.FalconForCausalLM(config))


def _mixture() -> Entry:
    config = hf.MixtralConfig(**DECODER, num_local_experts=4, num_experts_per_tok=2)
    return _reads(hf.MixtralForCausalLM(config))


def _mamba() -> Entry:
    config = hf.MambaConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=1, state_size=4, expand=2, conv_kernel=4, use_cache=False
    )
    return _reads(hf.MambaForCausalLM(config))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "hf-bert": lambda: _reads(hf.BertForSequenceClassification(hf.BertConfig(**PLAIN))),
    "hf-bert-mask": _padded,
    "hf-bert-pairs": _pairs,
    "hf-bert-tagger": lambda: _reads(hf.BertForTokenClassification(hf.BertConfig(**PLAIN))),
    "hf-bert-words": lambda: _reads(hf.BertForMaskedLM(hf.BertConfig(**PLAIN))),
    "albert": _albert,
    "distilbert": _distilbert,
    "electra": lambda: _reads(hf.ElectraForSequenceClassification(hf.ElectraConfig(**PLAIN, embedding_size=24))),
    "roberta": lambda: _reads(hf.RobertaForSequenceClassification(hf.RobertaConfig(**PLAIN))),
    "roberta-prenorm": lambda: _reads(
        hf.RobertaPreLayerNormForSequenceClassification(hf.RobertaPreLayerNormConfig(**PLAIN))
    ),
    "roformer": lambda: _reads(
        hf.RoFormerForSequenceClassification(hf.RoFormerConfig(**PLAIN, embedding_size=48, rotary_value=True))
    ),
    "mpnet": lambda: _reads(hf.MPNetForSequenceClassification(hf.MPNetConfig(**PLAIN))),
    "mobilebert": _mobilebert,
    "squeezebert": _squeezebert,
    "funnel": _funnel,
    "convbert": _convbert,
    "fnet": _fnet,
    "deberta-v2": _deberta,
    "xlnet": _xlnet,
    "nystromformer": _nystromformer,
    "modernbert": _modernbert,
    "t5-encoder": _t5,
    "bart": _bart,
    "gpt2": _gpt2,
    "gpt-neox": lambda: _reads(hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**{**PLAIN, "use_cache": False}))),
    "opt": _opt,
    "bloom": _bloom,
    "falcon": _falcon,
    "llama": lambda: _reads(hf.LlamaForCausalLM(hf.LlamaConfig(**DECODER))),
    "qwen3": lambda: _reads(hf.Qwen3ForCausalLM(hf.Qwen3Config(**DECODER, head_dim=16))),
    "gemma": lambda: _reads(hf.GemmaForCausalLM(hf.GemmaConfig(**DECODER, head_dim=16))),
    "mixtral": _mixture,
    "mamba": _mamba,
}
