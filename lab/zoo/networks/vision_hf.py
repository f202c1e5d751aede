"""Vision transformers and hybrids of the `transformers` package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf
from torch import nn

from lab.zoo.entry import Entry, noise
from lab.zoo.wrapped import DRAWN, Wrapped, as_trained

SIDE = 48
PLAIN: dict[str, Any] = {
    "image_size": SIDE, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 96, "num_labels": 10, **DRAWN,
}  # fmt: skip


def _seen(network: nn.Module, *wanted: str, side: int = SIDE, **fixed: Any) -> Entry:
    return Entry(Wrapped(network, ("pixel_values",), wanted, **fixed), (noise(3, side, side),))


def _vit() -> Entry:
    return _seen(hf.ViTForImageClassification(hf.ViTConfig(**PLAIN)))


def _deit() -> Entry:
    return _seen(hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**PLAIN)))


def _beit() -> Entry:
    config = hf.BeitConfig(**PLAIN, use_relative_position_bias=True, layer_scale_init_value=1.0)
    return _seen(hf.BeitForImageClassification(config))


def _dinov2() -> Entry:
    plain = {name: value for name, value in PLAIN.items() if name != "intermediate_size"}
    return _seen(hf.Dinov2WithRegistersForImageClassification(hf.Dinov2WithRegistersConfig(**plain, mlp_ratio=2)))


def _dinov3() -> Entry:
    plain = {name: value for name, value in PLAIN.items() if name != "num_labels"}
    return _seen(hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**plain, layerscale_value=1.0)), "pooler_output")


def _clip() -> Entry:
    plain = {name: value for name, value in PLAIN.items() if name not in ("num_labels", "initializer_range")}
    return _seen(hf.CLIPVisionModel(hf.CLIPVisionConfig(**plain)), "pooler_output")


def _siglip() -> Entry:
    plain = {name: value for name, value in PLAIN.items() if name not in ("num_labels", "initializer_range")}
    return _seen(hf.SiglipVisionModel(hf.SiglipVisionConfig(**plain)), "pooler_output")


def _swin() -> Entry:
    config = hf.SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        num_labels=10,
        **DRAWN,
    )
    return _seen(hf.SwinForImageClassification(config), side=64)


def _swin_v2() -> Entry:
    config = hf.Swinv2Config(
        image_size=64,
        patch_size=4,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        num_labels=10,
        **DRAWN,
    )
    return _seen(hf.Swinv2ForImageClassification(config), side=64)


def _mobilevit() -> Entry:
    config = hf.MobileViTConfig(
        image_size=64, hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 16, 16, 24, 24, 32, 96], num_attention_heads=2,
        num_labels=10, **DRAWN,
    )  # fmt: skip
    return _seen(hf.MobileViTForImageClassification(config), side=64)


def _mobilevit_v2() -> Entry:
    config = hf.MobileViTV2Config(image_size=64, width_multiplier=0.25, n_attn_blocks=[1, 1, 1], num_labels=10, **DRAWN)
    return _seen(hf.MobileViTV2ForImageClassification(config), side=64)


def _levit() -> Entry:
    config = hf.LevitConfig(
        image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8],
        num_labels=10, **DRAWN,
    )  # fmt: skip
    network = as_trained(
        hf.LevitForImageClassificationWithTeacher(config), "projection.batch_norm", "linear_down.batch_norm"
    )
    return _seen(network, side=64)


def _swiftformer() -> Entry:
    config = hf.SwiftFormerConfig(
        image_size=64, depths=[1, 1, 1, 1], embed_dims=[16, 24, 32, 48], layer_scale_init_value=1.0, num_labels=10
    )
    return _seen(hf.SwiftFormerForImageClassification(config), side=64)


def _hiera() -> Entry:
    config = hf.HieraConfig(
        image_size=[64, 64], embed_dim=16, num_heads=[1, 2, 4, 4], depths=[1, 1, 1, 1], num_labels=10,
        masked_unit_size=[8, 8], **DRAWN,
    )  # fmt: skip
    return _seen(hf.HieraForImageClassification(config), side=64)


def _pvt() -> Entry:
    config = hf.PvtConfig(
        image_size=64, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 3, 4],
        mlp_ratios=[2, 2, 2, 2], num_labels=10, **DRAWN,
    )  # fmt: skip
    return _seen(hf.PvtForImageClassification(config), side=64)


def _pvt_v2(linear: bool) -> Entry:
    config = hf.PvtV2Config(
        image_size=64, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 3, 4],
        mlp_ratios=[2, 2, 2, 2], linear_attention=linear, num_labels=10, **DRAWN,
    )  # fmt: skip
    return _seen(hf.PvtV2ForImageClassification(config), side=64)


def _cvt() -> Entry:
    config = hf.CvtConfig(embed_dim=[16, 32, 48], num_heads=[1, 2, 3], depth=[1, 2, 3], num_labels=10, **DRAWN)
    return _seen(hf.CvtForImageClassification(config), side=64)


def _segformer() -> Entry:
    config = hf.SegformerConfig(
        hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 3], mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=32, num_labels=10, **DRAWN,
    )  # fmt: skip
    return _seen(hf.SegformerForSemanticSegmentation(config), side=64)


def _glpn() -> Entry:
    config = hf.GLPNConfig(
        hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 3], mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=16, **DRAWN,
    )  # fmt: skip
    return _seen(hf.GLPNForDepthEstimation(config), "predicted_depth", side=64)


def _dpt() -> Entry:
    plain = {**PLAIN, "num_hidden_layers": 4, "num_labels": 5}
    config = hf.DPTConfig(
        **plain, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[12, 24, 48, 48], fusion_hidden_size=16
    )
    return _seen(hf.DPTForSemanticSegmentation(config))


def _yolos() -> Entry:
    plain = {**PLAIN, "image_size": [SIDE, SIDE]}
    config = hf.YolosConfig(**plain, num_detection_tokens=10)
    return _seen(hf.YolosForObjectDetection(config), "logits", "pred_boxes")


def _swin2sr() -> Entry:
    config = hf.Swin2SRConfig(
        image_size=32, embed_dim=24, depths=[2], num_heads=[3], window_size=4, upscale=2, mlp_ratio=2.0, **DRAWN
    )
    return _seen(hf.Swin2SRForImageSuperResolution(config), "reconstruction", side=32)


def _videomae() -> Entry:
    plain = {**PLAIN, "image_size": 32}
    config = hf.VideoMAEConfig(**plain, num_frames=4)
    network = Wrapped(hf.VideoMAEForVideoClassification(config), ("pixel_values",))
    return Entry(network, (noise(4, 3, 32, 32),))


def _timesformer() -> Entry:
    plain = {**PLAIN, "image_size": 32}
    network = Wrapped(
        hf.TimesformerForVideoClassification(hf.TimesformerConfig(**plain, num_frames=4)), ("pixel_values",)
    )
    return Entry(network, (noise(4, 3, 32, 32),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "hf-vit": _vit,
    "hf-deit": _deit,
    "beit": _beit,
    "dinov2-registers": _dinov2,
    "dinov3-vit": _dinov3,
    "clip-vision": _clip,
    "siglip-vision": _siglip,
    "hf-swin": _swin,
    "swin-v2": _swin_v2,
    "hf-mobilevit": _mobilevit,
    "hf-mobilevit-v2": _mobilevit_v2,
    "hf-levit": _levit,
    "swiftformer": _swiftformer,
    "hiera": _hiera,
    "pvt": _pvt,
    "pvt-v2": lambda: _pvt_v2(linear=False),
    "pvt-v2-linear": lambda: _pvt_v2(linear=True),
    "cvt": _cvt,
    "segformer": _segformer,
    "glpn": _glpn,
    "dpt": _dpt,
    "yolos": _yolos,
    "swin2sr": _swin2sr,
    "videomae": _videomae,
    "timesformer": _timesformer,
}
