"""What a training step makes smaller."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from models.network import NetworkOutput
from models.training.batch import Batch

IMPORTANCE: Final = (1.0, 0.7, 0.7, 0.25)
"""How much target, nerve, vessel and aponeurosis count in the loss."""


def loss_of(output: NetworkOutput, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch, and its parts for the log."""
    labels, known, logits = batch.labels, batch.known, output.dense
    pixels = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    crossentropy = (pixels * batch.weight).mean((2, 3))
    probability = torch.sigmoid(logits)
    overlap = (probability * labels).sum((2, 3))
    total = probability.sum((2, 3)) + labels.sum((2, 3))
    smooth = 0.002 * labels.shape[-1] ** 2
    dice = 1.0 - (2.0 * overlap + smooth) / (total + smooth)
    # An empty truth has no Dice worth learning: cross-entropy alone keeps it empty.
    has = (labels.sum((2, 3)) > 0).float()
    importance = known * torch.tensor(IMPORTANCE, device=known.device)
    dense = (importance * (2.0 * crossentropy + dice * has)).sum() / len(labels)

    view = functional.cross_entropy(output.view, batch.view)
    not_muscle = functional.binary_cross_entropy_with_logits(output.not_muscle, batch.not_muscle)

    with torch.no_grad():
        mask = (logits[:, 0] > 0).float()
        truth = (labels[:, 0] > 0.5).float()
        both = (mask * truth).sum((1, 2))
        size = mask.sum((1, 2)) + truth.sum((1, 2))
        reached = torch.where(size > 0, 2 * both / size.clamp(min=1), torch.zeros_like(size))
        judged = (known[:, 0] > 0.15).float()
    quality = functional.binary_cross_entropy_with_logits(
        output.quality, reached, weight=judged, reduction="sum"
    ) / judged.sum().clamp(min=1.0)

    loss = dense + 0.2 * view + 0.3 * not_muscle + 0.3 * quality
    muscle = (known[:, 0] > 0.3) & (has[:, 0] > 0)
    return loss, {
        "loss": loss.detach(),
        "dice": (reached * muscle).sum() / muscle.sum(),
        "view": view.detach(),
        "not_muscle": not_muscle.detach(),
        "quality": quality.detach(),
    }
