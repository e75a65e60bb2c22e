"""Toxin products and their Units, which belong to one product and to no other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.clinic.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A botulinum toxin product; its name is the name of its Units."""

    name: str
    generic: str
    serotype: str
    grade: str
    sources: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, order=False)
class ToxinUnits:
    """An amount in one product's Units, zero or more.

    Units of different products are different things (every label says so: L_MYO_HCP, L_DYS_HCP,
    L_BOTOX_PDR, L_DAX_DC): adding or comparing them is a TypeError, and nothing here converts.
    """

    product: str
    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value < 0:
            raise InvalidInput(
                f"{self.value} is no amount of {self.product} Units.",
                remedy="Give the Units as a number of zero or more.",
            )

    def _same(self, other: object, verb: str) -> ToxinUnits:
        if not isinstance(other, ToxinUnits) or other.product != self.product:
            name = other.product if isinstance(other, ToxinUnits) else type(other).__name__
            raise TypeError(
                f"cannot {verb} {self.product} Units and {name}: Units belong to one product"
            )
        return other

    def __add__(self, other: ToxinUnits) -> ToxinUnits:
        return ToxinUnits(self.product, self.value + self._same(other, "add").value)

    def __le__(self, other: ToxinUnits) -> bool:
        return self.value <= self._same(other, "compare").value

    def __lt__(self, other: ToxinUnits) -> bool:
        return self.value < self._same(other, "compare").value

    def __ge__(self, other: ToxinUnits) -> bool:
        return self.value >= self._same(other, "compare").value

    def __gt__(self, other: ToxinUnits) -> bool:
        return self.value > self._same(other, "compare").value

    def __str__(self) -> str:
        return f"{self.value:g} {self.product} Units"
