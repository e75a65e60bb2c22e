"""From drawn examples to the tensors of one training step, on the device that trains.

Examples travel small, as bytes and click positions; the planes are drawn where they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.channels import (
    CHANNELS,
    CLICK_RADIUS_PX,
    CLICK_REACH_PX,
    IMAGE_MEAN,
    IMAGE_SPREAD,
    INPUT_SIZE,
    VIEW_OUTPUTS,
)
from models.training.augment import Draw

MOST_CLICKS: Final = 8
_PLANE: Final = {name: index for index, name in enumerate(CHANNELS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """n examples as arrays, small enough to be handed from process to process."""

    images: NDArray[np.uint8]
    """(n, size, size)."""
    labels: NDArray[np.uint8]
    """(n, 4, size / 2, size / 2) 0 to 255: target, nerve, vessel, aponeurosis."""
    clicks: NDArray[np.float32]
    """(n, MOST_CLICKS, 3): column, row, and 1 positive, -1 negative, 0 none."""
    boxes: NDArray[np.float32]
    """(n, 4): column0, row0, column1, row1; zeros where there is none."""
    asked: NDArray[np.int64]
    """(n,): index of the view asked for, -1 for none."""
    known: NDArray[np.float32]
    view: NDArray[np.int64]
    not_muscle: NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class Batch:
    """n examples as tensors on one device."""

    planes: Tensor
    """(n, channels, size, size) float32."""
    labels: Tensor
    """(n, 4, size / 2, size / 2) float32 0 to 1, the size of the training logits."""
    weight: Tensor
    """The same shape: how much a pixel counts in the cross-entropy."""
    known: Tensor
    """(n, 4) float32: how much each output counts."""
    view: Tensor
    not_muscle: Tensor


def pack(draws: Sequence[Draw]) -> PackedBatch:
    """The examples as arrays."""
    clicks = np.zeros((len(draws), MOST_CLICKS, 3), np.float32)
    boxes = np.zeros((len(draws), 4), np.float32)
    for place, draw in enumerate(draws):
        for number, (column, row, positive) in enumerate(draw.clicks[:MOST_CLICKS]):
            clicks[place, number] = column, row, 1.0 if positive else -1.0
        if draw.box is not None:
            boxes[place] = draw.box
    return PackedBatch(
        images=np.stack([draw.image for draw in draws]),
        labels=np.stack([draw.labels for draw in draws]),
        clicks=clicks,
        boxes=boxes,
        asked=np.array(
            [-1 if d.asked is None else VIEW_OUTPUTS.index(d.asked) for d in draws], np.int64
        ),
        known=np.stack([draw.known for draw in draws]),
        view=np.array([draw.view for draw in draws], np.int64),
        not_muscle=np.array([draw.not_muscle for draw in draws], np.float32),
    )


def to_device(packed: PackedBatch, device: torch.device) -> Batch:
    """The examples as tensors on `device`, their planes drawn as `models.prompt_planes` does."""
    sent = {
        one.name: torch.from_numpy(getattr(packed, one.name)).to(device) for one in fields(packed)
    }
    labels = sent["labels"].float() / 255.0
    # Pixels near a border count more: that is where thickness and area are decided.
    blurred = functional.avg_pool2d(labels, 5, 1, 2, count_include_pad=False)
    return Batch(
        planes=_planes(sent["images"], sent["clicks"], sent["boxes"], sent["asked"]),
        labels=labels,
        weight=1.0 + 3.0 * (blurred - labels).abs().clamp(max=0.5),
        known=sent["known"],
        view=sent["view"],
        not_muscle=sent["not_muscle"],
    )


def _planes(images: Tensor, clicks: Tensor, boxes: Tensor, asked: Tensor) -> Tensor:
    count, size, _ = images.shape
    planes = torch.zeros(count, len(CHANNELS), size, size, device=images.device)
    planes[:, _PLANE["image"]] = (images.float() / 255.0 - IMAGE_MEAN) / IMAGE_SPREAD
    planes[:, _PLANE["depth"]] = torch.linspace(-1.0, 1.0, size, device=images.device)[:, None]
    for number in range(MOST_CLICKS):
        draw_clicks(planes, clicks[:, number])
    place = torch.arange(size, device=images.device, dtype=torch.float32)
    # The same rounding as `input_planes`: to even, at least one pixel.
    low, high = boxes[:, :2].round().clamp(min=0), boxes[:, 2:].round().clamp(min=1)
    has_box = boxes.abs().sum(1) > 0
    across = (place[None] >= low[:, :1]) & (place[None] < high[:, :1])
    down = (place[None] >= low[:, 1:]) & (place[None] < high[:, 1:])
    inside = across[:, None, :] & down[:, :, None] & has_box[:, None, None]
    planes[:, _PLANE["box"]] = inside.float()
    prompted = has_box | (clicks[..., 2] != 0).any(1)
    planes[:, _PLANE["prompted"]] = prompted.float()[:, None, None]
    planes[:, _PLANE["long_axis_asked"]] = (asked == 0).float()[:, None, None]
    planes[:, _PLANE["short_axis_asked"]] = (asked == 1).float()[:, None, None]
    return planes


def draw_clicks(planes: Tensor, clicks: Tensor) -> None:
    """Nothing; (n, 3) clicks (column, row, sign; 0: none) are drawn into (n, channels, s, s)."""
    size = planes.shape[-1]
    place = torch.arange(size, device=planes.device, dtype=torch.float32)
    columns = place[None, None, :] - clicks[:, 0, None, None]
    rows = place[None, :, None] - clicks[:, 1, None, None]
    distance = torch.hypot(rows, columns) * (INPUT_SIZE / size)
    disc = (CLICK_RADIUS_PX + 0.5 - distance).clamp(0.0, 1.0)
    reach = torch.exp(-distance / CLICK_REACH_PX)
    for sign, name in ((1.0, "positive"), (-1.0, "negative")):
        own = (clicks[:, 2] == sign).float()[:, None, None]
        for kind, drawn in (("clicks", disc), ("reach", reach)):
            plane = planes[:, _PLANE[f"{name}_{kind}"]]
            torch.maximum(plane, drawn * own, out=plane)
    prompted = planes[:, _PLANE["prompted"]]
    torch.maximum(prompted, (clicks[:, 2] != 0).float()[:, None, None], out=prompted)


def clicks_into_errors(answer: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 3) clicks where (n, s, s) answers are most wrong, in pixels of a square twice as large.

    The place is the middle of a wide patch of errors of one kind; a patch of random width, so
    that the clicks vary. Sign 0 where nothing is wrong.
    """
    error = truth - answer
    size = error.shape[-1]
    width = 3 + 2 * int(torch.randint(0, max(1, size // 16), (1,), generator=generator))
    smooth = functional.avg_pool2d(error[:, None], width, 1, width // 2)[:, 0]
    strength = smooth.abs() * (error != 0)
    noise = torch.rand(strength.shape, generator=generator).to(strength.device)
    flat = (strength * (0.9 + 0.1 * noise)).flatten(1)
    value, index = flat.max(1)
    row, column = torch.div(index, size, rounding_mode="floor"), index % size
    sign = error.flatten(1).gather(1, index[:, None])[:, 0].sign() * (value > 0)
    return torch.stack([2.0 * column + 0.5, 2.0 * row + 0.5, sign], dim=1)
