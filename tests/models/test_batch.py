"""The tensors of a training step show the network what inference shows it."""

from __future__ import annotations

import numpy as np
import torch

from models.channels import CHANNELS
from models.prompt_planes import input_planes
from models.training.augment import Draw
from models.training.batch import clicks_into_errors, draw_clicks, pack, to_device


def draw(**said: object) -> Draw:
    random = np.random.default_rng(1)
    made: dict[str, object] = {
        "image": random.integers(0, 255, (64, 64)).astype(np.uint8),
        "labels": np.zeros((4, 32, 32), np.uint8),
        "clicks": (),
        "box": None,
        "asked": None,
        "known": np.ones(4, np.float32),
        "view": 0,
        "not_muscle": 0.0,
    }
    return Draw(**{**made, **said})


def test_planes_of_training_and_of_inference_are_one_drawing() -> None:
    """Clicks, box and asked view are drawn alike in a batch and for one picture."""
    clicks = ((20.0, 30.0, True), (50.5, 8.25, False), (3.0, 60.0, True))
    box = (5.5, 2.2, 40.1, 33.6)
    prompted = draw(clicks=clicks, box=box, asked="short_axis")
    batch = to_device(pack([draw(), prompted]), torch.device("cpu"))
    for made, expected in zip(
        batch.planes.numpy(),
        (
            input_planes(prompted.image),
            input_planes(prompted.image, clicks=clicks, box=box, view="short_axis"),
        ),
        strict=True,
    ):
        assert np.abs(made - expected).max() < 1e-5


def test_a_corrective_click_lies_in_the_largest_error_and_says_which_way() -> None:
    """What is missing gets a positive click, what is too much a negative one."""
    truth, answer = torch.zeros(3, 32, 32), torch.zeros(3, 32, 32)
    truth[0, 4:20, 4:20] = 1
    answer[1, 8:24, 10:30] = 1
    truth[2] = answer[2] = (torch.arange(32) > 9).float()
    clicks = clicks_into_errors(answer, truth, torch.Generator().manual_seed(0))
    assert clicks[:, 2].tolist() == [1.0, -1.0, 0.0]
    column, row = (clicks[0, :2] / 2).long().tolist()
    assert 4 <= column < 20
    assert 4 <= row < 20
    planes = torch.zeros(3, len(CHANNELS), 64, 64)
    draw_clicks(planes, clicks)
    assert planes[:, CHANNELS.index("prompted"), 0, 0].tolist() == [1.0, 1.0, 0.0]
    assert planes[0, CHANNELS.index("positive_clicks")].max() == 1.0
    assert planes[1, CHANNELS.index("negative_clicks")].max() == 1.0
