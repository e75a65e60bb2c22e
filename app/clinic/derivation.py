"""Where a number comes from: a tree of named quantities with equations and sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One number of a derivation: what it is, its value and unit, how it was made and from what.

    `text` is the same in one plain sentence.
    """

    name: str
    value: float | str | None
    unit: str
    equation: str
    sources: tuple[str, ...]
    inputs: tuple[Step, ...] = ()
    text: str = ""

    def walk(self) -> Iterator[Step]:
        """This step after all the steps it was made from, each once per use."""
        for step in self.inputs:
            yield from step.walk()
        yield self


def sentences(step: Step) -> tuple[str, ...]:
    """The derivation in plain sentences, causes before results, no sentence twice."""
    return tuple(dict.fromkeys(s.text for s in step.walk() if s.text))
