"""The network: an EfficientNet-Lite0 encoder, a separable decoder, and heads that judge it.

It knows nothing of files, muscles or clicks: channels in, logits out. Torch is imported here,
in `models.torch_engine` and in `models.training`, never on the default path of inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.channels import CHANNELS, DENSE_OUTPUTS, VIEW_OUTPUTS

# (kernel, stride, channels in, expansion, channels out) of EfficientNet-Lite0's blocks. The last
# one (320 channels at stride 32) is left out: it costs a tenth of the time for a classifier's sake.
_BLOCKS: tuple[tuple[int, int, int, int, int], ...] = (
    (3, 1, 32, 1, 16),
    (3, 2, 16, 6, 24),
    (3, 1, 24, 6, 24),
    (5, 2, 24, 6, 40),
    (5, 1, 40, 6, 40),
    (3, 2, 40, 6, 80),
    (3, 1, 80, 6, 80),
    (3, 1, 80, 6, 80),
    (5, 1, 80, 6, 112),
    (5, 1, 112, 6, 112),
    (5, 1, 112, 6, 112),
    (5, 2, 112, 6, 192),
    (5, 1, 192, 6, 192),
    (5, 1, 192, 6, 192),
    (5, 1, 192, 6, 192),
)
_SKIP_AFTER = (0, 2, 4, 10, 14)
"""The blocks whose outputs the decoder reads: strides 2, 4, 8, 16, 32."""
_EARLY_BLOCKS = 3
"""The blocks before the prompts join, strides 2 and 4."""
_DEEP_PROMPT_BEFORE = 9
"""The block before which the prompts join once more, at stride 16."""
_PROMPT_CHANNELS = 32
_ENCODER_CHANNELS = (16, 24, 40, 112, 192)
_DECODER_CHANNELS = (24, 32, 48, 80, 128)


class NetworkOutput(NamedTuple):
    """Raw answers of one forward pass over n images of 256x256 pixels."""

    dense: Tensor
    """(n, 4, 256, 256) float logits: target, nerve, vessel, aponeurosis; half as large in
    training mode, before the last bilinear step."""
    view: Tensor
    """(n, 3) float logits: long axis, short axis, other."""
    not_muscle: Tensor
    """(n,) float logit: no muscle can be seen here."""
    quality: Tensor
    """(n,) float logit of the Dice that the target mask is predicted to reach."""


def _conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)


class _DepthwiseGradient(torch.autograd.Function):
    # oneDNN's bfloat16 gradients of depthwise convolutions are five to twenty times slower than
    # its float32 ones (torch 2.13, measured): only the gradients are taken in float32.
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        return functional.conv2d(
            features, weight, None, stride, weight.shape[-1] // 2, 1, weight.shape[0]
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        features, weight = ctx.saved_tensors
        into, of_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float().contiguous(memory_format=torch.channels_last),
            features.float().contiguous(memory_format=torch.channels_last),
            weight.float(),
            None,
            [ctx.stride] * 2,
            [weight.shape[-1] // 2] * 2,
            [1, 1],
            False,
            [0, 0],
            weight.shape[0],
            [True, True, False],
        )
        return into.to(features.dtype), of_weight.to(weight.dtype), None


class _Depthwise(nn.Conv2d):
    """A depthwise convolution that trains fast on a CPU."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
        )

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or features.dtype != torch.bfloat16 or features.is_cuda:
            return super().forward(features)
        weight = self.weight.to(features.dtype)
        # Unset autocast: it would cast inside the function where no gradient is recorded.
        with torch.autocast("cpu", enabled=False):
            result: Tensor = _DepthwiseGradient.apply(  # type: ignore[no-untyped-call]  # torch says no type
                features, weight, self.stride[0]
            )
        return result


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


def _loud(channels: int, spread: float) -> nn.Conv2d:
    # Weights wide enough that prompts reach the size of the features that they are added to.
    convolution = _conv(_PROMPT_CHANNELS, channels, 1)
    nn.init.normal_(convolution.weight, std=spread)
    return convolution


class _InvertedResidual(nn.Module):
    def __init__(self, kernel: int, stride: int, inner: int, expansion: int, outer: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.residual = stride == 1 and inner == outer
        self.expand = (
            nn.Sequential(_conv(inner, wide, 1), _norm(wide), nn.ReLU6(inplace=True))
            if expansion > 1
            else nn.Identity()
        )
        self.depthwise = nn.Sequential(
            _Depthwise(wide, kernel, stride), _norm(wide), nn.ReLU6(inplace=True)
        )
        self.project = nn.Sequential(_conv(wide, outer, 1), _norm(outer))

    def forward(self, features: Tensor) -> Tensor:
        narrow: Tensor = self.project(self.depthwise(self.expand(features)))
        return features + narrow if self.residual else narrow


class _Refine(nn.Module):
    """Separable convolution with a residual: the decoder's one kind of step."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _Depthwise(channels, kernel),
            _norm(channels),
            _conv(channels, channels, 1),
            _norm(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        refined: Tensor = self.body(features)
        return features + refined


class MuscleNet(nn.Module):
    """Segments, names the view, and judges its own mask, in one forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(1, 32, 3, 2), _norm(32), nn.ReLU6(inplace=True))
        self.blocks = nn.ModuleList(
            _InvertedResidual(kernel, stride, inner, expansion, outer)
            for kernel, stride, inner, expansion, outer in _BLOCKS
        )
        deepest = _DECODER_CHANNELS[-1]
        self.laterals = nn.ModuleList(
            nn.Sequential(_conv(inner, outer, 1), _norm(outer))
            for inner, outer in zip(_ENCODER_CHANNELS, _DECODER_CHANNELS, strict=True)
        )
        # Clicks and the asked view join at stride 4, behind the layers that stay as ImageNet left
        # them: those need no gradients then, which nearly halves the time of a training step.
        # They are said again at stride 16 and on the way up, each time as loud as the features
        # they join: joined softly once, a click was overlooked.
        self.prompts = nn.Sequential(
            nn.Conv2d(len(CHANNELS) - 1, _PROMPT_CHANNELS, 1), nn.ReLU(inplace=True)
        )
        self.prompt_early = _loud(_ENCODER_CHANNELS[1], 2.0)
        self.prompt_deep = _loud(_ENCODER_CHANNELS[3], 0.8)
        self.prompt_laterals = nn.ModuleList(
            _loud(channels, 0.4) for channels in _DECODER_CHANNELS[1:4]
        )
        self.context = nn.Linear(deepest, deepest)
        self.refines = nn.ModuleList(
            _Refine(channels, 3 if level < 2 else 5)
            for level, channels in enumerate(_DECODER_CHANNELS)
        )
        self.narrows = nn.ModuleList(
            _conv(_DECODER_CHANNELS[level + 1], _DECODER_CHANNELS[level], 1)
            for level in range(len(_DECODER_CHANNELS) - 1)
        )
        self.dense_head = nn.Conv2d(_DECODER_CHANNELS[0], len(DENSE_OUTPUTS), 1)
        self.image_head = nn.Sequential(
            nn.Linear(2 * deepest, 64), nn.ReLU(inplace=True), nn.Linear(64, len(VIEW_OUTPUTS) + 1)
        )
        judged = 2 * _DECODER_CHANNELS[1] + deepest + 5
        self.quality_head = nn.Sequential(
            nn.Linear(judged, 64), nn.ReLU(inplace=True), nn.Linear(64, 1)
        )

        self.early_frozen = False

    def freeze_early(self) -> None:
        """Nothing; the layers before the prompts join keep their weights and statistics."""
        self.early_frozen = True
        for part in (self.stem, *self.blocks[:_EARLY_BLOCKS]):
            part.requires_grad_(False)
            part.eval()

    def train(self, mode: bool = True) -> MuscleNet:
        """The network itself, in training mode but for what is frozen."""
        super().train(mode)
        if self.early_frozen:
            self.freeze_early()
        return self

    def forward(self, channels: Tensor) -> NetworkOutput:
        """Logits for (n, channels, 256, 256) float32 input planes (see `models.channels`)."""
        skips: list[Tensor] = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.early_frozen):
            features = self.stem(channels[:, :1])
            for index in range(_EARLY_BLOCKS):
                features = self.blocks[index](features)
                if index in _SKIP_AFTER:
                    skips.append(features)
        prompts = [self.prompts(functional.avg_pool2d(channels[:, 1:], 4))]
        prompts += [functional.avg_pool2d(prompts[0], 2), functional.avg_pool2d(prompts[0], 4)]
        features = features + self.prompt_early(prompts[0])
        for index in range(_EARLY_BLOCKS, len(self.blocks)):
            if index == _DEEP_PROMPT_BEFORE:
                features = features + self.prompt_deep(prompts[2])
            features = self.blocks[index](features)
            if index in _SKIP_AFTER:
                skips.append(features)

        top = self.laterals[-1](skips[-1])
        pooled = torch.cat([top.mean((2, 3)), top.amax((2, 3))], dim=1)
        context = self.context(top.mean((2, 3)))
        image = self.image_head(pooled)
        features = self.refines[-1](functional.relu(top + context[:, :, None, None]))
        quarter = features
        for level in range(len(_DECODER_CHANNELS) - 2, -1, -1):
            features = functional.interpolate(
                self.narrows[level](features), scale_factor=2.0, mode="bilinear"
            )
            features = features + self.laterals[level](skips[level])
            if level > 0:
                features = features + self.prompt_laterals[level - 1](prompts[level - 1])
            features = self.refines[level](functional.relu(features))
            if level == 1:
                quarter = features
        logits = self.dense_head(features)
        quality = self._judge(logits[:, 0].detach(), quarter.detach(), top.detach())
        # The loss is taken at stride 2: at full size it cost a third of a training step.
        dense = logits.float()
        if not self.training:
            dense = functional.interpolate(dense, scale_factor=2.0, mode="bilinear")
        return NetworkOutput(
            dense=dense,
            view=image[:, : len(VIEW_OUTPUTS)].float(),
            not_muscle=image[:, len(VIEW_OUTPUTS)].float(),
            quality=quality.float(),
        )

    def _judge(self, target_logits: Tensor, quarter: Tensor, top: Tensor) -> Tensor:
        # The judge sees the mask it judges: features inside it and along its doubtful rim, and
        # how sure the pixels are. Detached, so that it cannot make the mask easier to judge.
        probability = torch.sigmoid(target_logits.float())[:, None]
        coarse = functional.avg_pool2d(probability, 2)
        doubt = 4.0 * coarse * (1.0 - coarse)
        inside = (quarter * coarse).sum((2, 3)) / (coarse.sum((2, 3)) + 1.0)
        rim = (quarter * doubt).sum((2, 3)) / (doubt.sum((2, 3)) + 1.0)
        firm = torch.sigmoid(8.0 * (target_logits.float()))[:, None]
        area = probability.mean((2, 3))
        firm_area = firm.mean((2, 3))
        overlap = (probability * firm).mean((2, 3))
        agreement = (2.0 * overlap + 1e-4) / (area + firm_area + 1e-4)
        doubt_mean = doubt.mean((2, 3))
        statistics = torch.cat(
            [area, firm_area, agreement, doubt_mean, doubt_mean / (area + 0.01)], dim=1
        )
        seen = torch.cat([inside, rim, top.mean((2, 3)), statistics], dim=1)
        judged: Tensor = self.quality_head(seen)[:, 0]
        return judged


def load_imagenet(network: MuscleNet, weights: Mapping[str, Tensor]) -> None:
    """Fill the encoder from EfficientNet-Lite0's ImageNet weights (keys `_blocks.0._bn1...`).

    The image is grey: the three colour kernels are added up.
    """
    stem = network.stem[0]
    if not isinstance(stem, nn.Conv2d):  # pragma: no cover - the stem is built above
        raise TypeError("the stem does not begin with a convolution")
    with torch.no_grad():
        stem.weight.copy_(weights["_conv_stem.weight"].sum(1, keepdim=True))
    _copy_norm(network.stem[1], weights, "_bn0")
    for index, block in enumerate(network.blocks):
        if not isinstance(block, _InvertedResidual):  # pragma: no cover - built above
            raise TypeError("an encoder block of an unknown kind")
        prefix = f"_blocks.{index}."
        parts = [
            (block.depthwise, "_depthwise_conv", "_bn1"),
            (block.project, "_project_conv", "_bn2"),
        ]
        if isinstance(block.expand, nn.Sequential):
            parts.append((block.expand, "_expand_conv", "_bn0"))
        for part, convolution, norm in parts:
            with torch.no_grad():
                _weight_of(part).copy_(weights[f"{prefix}{convolution}.weight"])
            _copy_norm(part[1], weights, prefix + norm)


def _weight_of(part: nn.Sequential) -> Tensor:
    convolution = part[0]
    if not isinstance(convolution, nn.Conv2d):  # pragma: no cover - built above
        raise TypeError("the part does not begin with a convolution")
    return convolution.weight


def _copy_norm(norm: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> None:
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).copy_(weights[f"{prefix}.{name}"])
