"""The request is checked at the edge, and what is absent stays absent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.planning.request import EXAMPLE, AnalysisRequest


def test_the_documented_example_is_a_valid_request() -> None:
    """The example that OpenAPI shows can be posted as it stands."""
    assert AnalysisRequest.model_validate(EXAMPLE).muscle == "biceps_brachii"


def test_unknown_is_not_none() -> None:
    """Earlier treatments left out stay unknown; an empty list means none."""
    least = {"muscle": "soleus", "side": "left"}
    assert AnalysisRequest.model_validate(least).prior_treatments is None
    assert AnalysisRequest.model_validate({**least, "prior_treatments": []}).prior_treatments == ()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"side": "both"}, "side"),
        ({"muscel": "typing error"}, "muscel"),
        ({"patient": {"weight_kg": -3}}, "weight_kg"),
        ({"patient": {"weight_kg": float("nan")}}, "weight_kg"),
        ({"dilution": {"units": 100, "ml": 0}}, "ml"),
        ({"clicks": [{"column": -1, "row": 3}]}, "column"),
        ({"calibration": {"row_mm_per_px": 0.1}}, "calibration"),
        ({"box": {"column0": 5, "row0": 5, "column1": 5, "row1": 9}}, "box"),
        ({"outlines": [{"points": [[1, 1], [2, 2]]}]}, "points"),
        ({"severity": {"scale": "MAS", "value": "5"}}, "value"),
    ],
)
def test_a_wrong_part_is_named(change: dict[str, Any], where: str) -> None:
    """Each wrong part is refused, and the refusal names it."""
    with pytest.raises(ValidationError) as caught:
        AnalysisRequest.model_validate({**EXAMPLE, **change})
    assert any(where in map(str, error["loc"]) for error in caught.value.errors())


@given(
    muscle=st.text(min_size=1, max_size=40).filter(str.strip),
    spacing=st.floats(min_value=0.1, max_value=50),
    clicks=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 4000)), max_size=5),
)
def test_a_request_survives_its_own_json(
    muscle: str, spacing: float, clicks: list[tuple[int, int]]
) -> None:
    """What is stored with a revision reads back as the same request."""
    request = AnalysisRequest.model_validate(
        {
            "muscle": muscle,
            "side": "right",
            "sweep": {"spacing_mm": spacing},
            "clicks": [{"column": c, "row": r} for c, r in clicks],
        }
    )
    assert AnalysisRequest.model_validate_json(request.model_dump_json()) == request
