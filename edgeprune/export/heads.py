"""Attention that has lost heads, which PyTorch's own module does not allow for."""

from __future__ import annotations

import math
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FewerHeads(nn.MultiheadAttention):
    """Self-attention (Vaswani et al. 2017) as `nn.MultiheadAttention` computes it, with fewer heads of the same size:
    in_proj_weight [3 * heads * channels, inputs], out_proj.weight [outputs, heads * channels]."""

    def forward(  # noqa: PLR0913  the signature of PyTorch's
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Optional[Tensor] = None,
        need_weights: bool = True,
        attn_mask: Optional[Tensor] = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Optional[Tensor]]:
        """query, key, value: the same [n, places, inputs], or with the first two axes exchanged unless batch_first.
        Masks as there, the same for all heads. NotImplementedError for what a cut is not made for."""
        if key is not query or value is not query or query.dim() != 3:
            raise NotImplementedError("heads leave where attention is of batches to themselves")
        if attn_mask is not None and attn_mask.dim() != 2:
            raise NotImplementedError("heads leave where all have the same mask")
        x = query if self.batch_first else query.transpose(0, 1)
        made = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = made.view(*made.shape[:2], 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        mask = None if attn_mask is None else _added(attn_mask, x)
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, x)[:, None, None]
            mask = padding if mask is None else mask + padding
        given = self.out_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
        given = given if self.batch_first else given.transpose(0, 1)
        if not need_weights:
            return given, None
        scores = q @ k.transpose(2, 3) / math.sqrt(self.head_dim)
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return given, weights.mean(1) if average_attn_weights else weights


def _added(mask: Tensor, x: Tensor) -> Tensor:
    """A mask as what is added to the scores; True of a Boolean one hides a place."""
    if mask.is_floating_point():
        return mask.to(x.dtype)
    return torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask, -torch.inf)


def few_heads(module: nn.MultiheadAttention) -> None:
    """Bring attention in line with its tensors: if it has lost heads or inputs it is a `FewerHeads` from now on."""
    heads = len(module.in_proj_weight) // (3 * module.head_dim)
    inputs = module.in_proj_weight.shape[1]
    if (heads, inputs) == (module.num_heads, module.embed_dim):
        return
    module.__class__ = FewerHeads
    module.num_heads, module.embed_dim, module.kdim, module.vdim = heads, inputs, inputs, inputs
    module._qkv_same_embed_dim = False  # what keeps an encoder layer from fused kernels that know whole heads only
