"""Convolutional networks of the `transformers` package."""

from __future__ import annotations

from collections.abc import Callable

import transformers as hf
from torch import nn

from lab.zoo.entry import Entry, noise
from lab.zoo.wrapped import Wrapped, as_trained

ENDS = "reduce_1x1.normalization"  # of MobileNetV2's blocks
SIDE, CLASSES = 64, {"num_labels": 10}
STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}


def _seen(network: nn.Module, side: int = SIDE) -> Entry:
    return Entry(Wrapped(network, ("pixel_values",)), (noise(3, side, side),))


def _resnet(layer: str) -> Entry:
    config = hf.ResNetConfig(embedding_size=16, layer_type=layer, **STAGES, **CLASSES)
    return _seen(hf.ResNetForImageClassification(config))


def _bit() -> Entry:
    config = hf.BitConfig(
        embedding_size=32, num_groups=8, hidden_sizes=[32, 64, 64, 96], depths=[1, 1, 2, 1], **CLASSES
    )
    return _seen(hf.BitForImageClassification(config))


def _regnet(layer: str) -> Entry:
    config = hf.RegNetConfig(embedding_size=16, groups_width=8, layer_type=layer, **STAGES, **CLASSES)
    return _seen(hf.RegNetForImageClassification(config))


def _mobilenet_v1() -> Entry:
    return _seen(hf.MobileNetV1ForImageClassification(hf.MobileNetV1Config(depth_multiplier=0.25, **CLASSES)))


def _mobilenet_v2() -> Entry:
    network = hf.MobileNetV2ForImageClassification(hf.MobileNetV2Config(depth_multiplier=0.35, **CLASSES))
    return _seen(as_trained(network, ENDS))


def _mobilenet_v2_deeplab() -> Entry:
    config = hf.MobileNetV2Config(depth_multiplier=0.35, output_stride=16, **CLASSES)
    return _seen(as_trained(hf.MobileNetV2ForSemanticSegmentation(config), ENDS))


def _efficientnet() -> Entry:
    config = hf.EfficientNetConfig(
        width_coefficient=0.5, depth_coefficient=0.5, hidden_dim=640, initializer_range=0.2, **CLASSES
    )
    return _seen(as_trained(hf.EfficientNetForImageClassification(config), "projection.project_bn"))


def _convnext() -> Entry:
    config = hf.ConvNextConfig(layer_scale_init_value=1.0, initializer_range=0.1, **STAGES, **CLASSES)
    return _seen(hf.ConvNextForImageClassification(config))


def _convnext_v2() -> Entry:
    network = hf.ConvNextV2ForImageClassification(hf.ConvNextV2Config(initializer_range=0.1, **STAGES, **CLASSES))
    for name, parameter in network.named_parameters():
        if "grn." in name:
            nn.init.normal_(parameter, std=0.5)  # it begins at zero, where the layer does nothing
    return _seen(network)


def _poolformer() -> Entry:
    config = hf.PoolFormerConfig(
        hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1], layer_scale_init_value=1.0, initializer_range=0.1, **CLASSES
    )
    return _seen(hf.PoolFormerForImageClassification(config))


def _hgnet_v2() -> Entry:
    config = hf.HGNetV2Config(
        embedding_size=16, stem_channels=[3, 8, 16], stage_in_channels=[16, 32, 48, 64],
        stage_mid_channels=[8, 16, 24, 32], stage_out_channels=[32, 48, 64, 96], stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[2, 2, 2, 2], hidden_sizes=[32, 48, 64, 96], depths=[1, 1, 1, 1], **CLASSES,
    )  # fmt: skip
    return _seen(hf.HGNetV2ForImageClassification(config))


def _textnet() -> Entry:
    config = hf.TextNetConfig(
        stem_out_channels=16, hidden_sizes=[16, 16, 32, 48, 64], image_size=[64, 64],
        conv_layer_kernel_sizes=[[[3, 3]], [[3, 3], [1, 3]], [[3, 3], [3, 1]], [[3, 3]]],
        conv_layer_strides=[[2], [2, 1], [2, 1], [2]], **CLASSES,
    )  # fmt: skip
    return _seen(hf.TextNetForImageClassification(config))


def _pp_lcnet() -> Entry:
    return _seen(hf.PPLCNetForImageClassification(hf.PPLCNetConfig(scale=0.5, **CLASSES)))


def _focalnet() -> Entry:
    config = hf.FocalNetConfig(
        image_size=SIDE,
        embed_dim=16,
        hidden_sizes=[16, 32, 64, 96],
        depths=[1, 1, 2, 1],
        initializer_range=0.1,
        **CLASSES,
    )
    return _seen(hf.FocalNetForImageClassification(config))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "hf-resnet-basic": lambda: _resnet("basic"),
    "hf-resnet-bottleneck": lambda: _resnet("bottleneck"),
    "bit": _bit,
    "hf-regnet-x": lambda: _regnet("x"),
    "hf-regnet-y": lambda: _regnet("y"),
    "hf-mobilenet-v1": _mobilenet_v1,
    "hf-mobilenet-v2": _mobilenet_v2,
    "hf-mobilenet-v2-deeplab": _mobilenet_v2_deeplab,
    "hf-efficientnet": _efficientnet,
    "hf-convnext": _convnext,
    "hf-convnext-v2": _convnext_v2,
    "poolformer": _poolformer,
    "hgnet-v2": _hgnet_v2,
    "textnet": _textnet,
    "pp-lcnet": _pp_lcnet,
    "focalnet": _focalnet,
}
