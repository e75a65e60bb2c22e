"""There is no way from one product's Units to another's, and nobody added one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import app.clinic
from app.clinic.errors import InvalidInput
from app.clinic.products import ToxinUnits

ROOM = Path(app.clinic.__file__).parent
SOURCES = sorted(ROOM.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_no_name_speaks_of_conversion(path: Path) -> None:
    """No function, class, argument or variable is named after converting or equivalence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [
        getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "arg", None)
        for node in ast.walk(tree)
    ]
    for name in names:
        assert not re.search(r"convert|conversion|equivalen|exchange", str(name or ""), re.I)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_units_are_made_from_their_own_product(path: Path) -> None:
    """Every ToxinUnits takes its product from the thing that its value belongs to."""
    own = {
        "products.py": {"self.product"},
        "dosing.py": {"row.product", "product"},
        "follow_up.py": {"self.product"},
        "session.py": {"product"},
    }
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ToxinUnits":
            assert ast.unparse(node.args[0]) in own[path.name]


def test_tables_hold_no_ratio_of_products() -> None:
    """No table has a column or an entry that sets two products beside each other."""
    for path in sorted((ROOM / "data").iterdir()):
        head = path.read_text(encoding="utf-8").splitlines()[0]
        assert "product_to" not in head
        assert "ratio" not in head


def test_units_of_one_product_compare() -> None:
    """Units of one product are larger, smaller or the same as numbers are."""
    less, more = ToxinUnits("BOTOX", 5.0), ToxinUnits("BOTOX", 6.0)
    for one, other in ((less, more), (more, less), (less, less)):
        assert (one < other) == (one.value < other.value)
        assert (one <= other) == (one.value <= other.value)
        assert (one > other) == (one.value > other.value)
        assert (one >= other) == (one.value >= other.value)


def test_units_with_something_else_are_a_type_error() -> None:
    """A plain number is no Units either."""
    with pytest.raises(TypeError, match="add BOTOX Units and float"):
        _ = ToxinUnits("BOTOX", 5.0) + 3.0
    assert str(ToxinUnits("BOTOX", 5.0)) == "5 BOTOX Units"


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_units_are_zero_or_more(value: float) -> None:
    """An amount below zero or not finite is refused."""
    with pytest.raises(InvalidInput):
        ToxinUnits("BOTOX", value)
