"""Which muscle an image is of: a site's rules, read from a file and checked at the start.

The first rule of the file whose conditions all hold for an image decides, as in a firewall:
order is visible, "more specific" is not. What no rule knows waits for a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.clinic.errors import ClinicError
from app.clinic.plan import check_request
from app.clinic.tables import ClinicalTables
from app.errors import RulesRefused
from app.planning.request import AnalysisRequest, DilutionPart, FrameChoice, Index, Short, SweepPart
from app.planning.request_inputs import clinical_inputs
from app.store.records import SIDES


def _listed(value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    # YAML reads 0123 as 83: what looks like a number is asked for again.
    if any(isinstance(v, int | float) for v in values):
        raise ValueError("write codes and numbers in quotes")
    return values


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return text


Words = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
    BeforeValidator(_listed),
    Field(min_length=1),
]
Pattern = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_pattern)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Conditions(_Part):
    """What an image must say; each condition is one value or a list of which one must hold.

    `description` and `order` are regular expressions, found anywhere in the text, whatever the
    case; all others are whole values, whatever the case. A code is SCHEME:VALUE, or a bare VALUE
    of any scheme.
    """

    body_part: Words | None = None
    region: Words | None = None
    laterality: Words | None = None
    description: Pattern | None = None
    procedure: Words | None = None
    order: Pattern | None = None
    calling_ae: Words | None = None
    modality: Words | None = None


class Target(_Part):
    """What the analysis is asked for: `side` as given, or as the image itself says."""

    muscle: Short
    side: Literal["left", "right", "from_image"] = "from_image"
    view: Literal["long_axis", "short_axis"] | None = None
    frames: Annotated[tuple[Index, ...], Field(min_length=1, max_length=200)] | None = None
    product: Short | None = None
    indication: Short | None = None
    jurisdiction: Short | None = None
    off_label: bool | None = None
    dilution: DilutionPart | None = None
    sweep: SweepPart | None = None

    def asked(self, side: str | None) -> dict[str, Any]:
        """The members of the request that this target makes; without `side` where it is unknown."""
        said = self.model_dump(mode="json", exclude_none=True, exclude={"side", "frames"})
        if side is not None:
            said["side"] = side
        if self.frames is not None:
            said["frames"] = [
                FrameChoice(frame=frame).model_dump(mode="json", exclude_none=True)
                for frame in self.frames
            ]
        return said


class Rule(_Part):
    """Conditions and what they mean."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}$")]
    when: Conditions
    then: Target


class Rules(_Part):
    """A rules file."""

    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What rules look at: the identity that a stored file's header gave, and who sent it."""

    identity: Mapping[str, Any]
    calling_ae: str | None = None

    @property
    def side(self) -> str | None:
        """`left` or `right` as the image says, None where it says neither."""
        return SIDES.get((self.identity.get("laterality") or "").upper())


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition against one image."""

    condition: str
    wanted: str
    found: tuple[str, ...]
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The rule that decides for an image; the side is None where the rule leaves it to an image
    that does not say."""

    rule: Rule
    side: str | None


def checks(rule: Rule, image: Image) -> tuple[Check, ...]:
    """Every condition of the rule with what the image says to it."""
    found = _values(image)
    return tuple(
        Check(
            condition=name,
            wanted=wanted if isinstance(wanted, str) else " or ".join(wanted),
            found=found[name],
            holds=_holds(wanted, found[name]),
        )
        for name, wanted in rule.when
        if wanted is not None
    )


def match(rules: Rules, image: Image) -> Match | None:
    """What the first rule says whose conditions all hold; None where none does."""
    for rule in rules.rules:
        if all(check.holds for check in checks(rule, image)):
            said = rule.then.side
            return Match(rule=rule, side=image.side if said == "from_image" else said)
    return None


def _values(image: Image) -> dict[str, tuple[str, ...]]:
    """What the image says to each condition; codes count with and without their scheme."""
    who = image.identity

    def texts(*names: str) -> tuple[str, ...]:
        return tuple(str(who[name]) for name in names if who.get(name))

    def codes(name: str) -> tuple[str, ...]:
        full = [str(code) for code in who.get(name) or ()]
        return tuple(dict.fromkeys([*full, *(code.partition(":")[2] for code in full)]))

    return {
        "body_part": texts("body_part"),
        "region": codes("anatomic_regions"),
        "laterality": texts("laterality"),
        "description": texts("study_description", "series_description", "protocol"),
        "procedure": codes("procedures"),
        "order": tuple(dict.fromkeys([*texts("accession"), *(who.get("orders") or ())])),
        "calling_ae": () if image.calling_ae is None else (image.calling_ae,),
        "modality": texts("modality"),
    }


def _holds(wanted: str | Sequence[str], found: Sequence[str]) -> bool:
    if isinstance(wanted, str):
        return any(re.search(wanted, text, re.IGNORECASE) for text in found)
    said = {text.casefold() for text in found}
    return any(word.casefold() in said for word in wanted)


def load_rules(path: Path, tables: ClinicalTables, *, jurisdiction: str) -> Rules:
    """The rules of a YAML or JSON file, every one of them one that can be carried out.

    Raises RulesRefused with every fault, each by line and field.
    """
    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as unreadable:
        raise _refused(path, [f"it cannot be read: {unreadable}"]) from None
    except yaml.YAMLError as broken:
        mark = getattr(broken, "problem_mark", None)
        at = "" if mark is None else f"line {mark.line + 1}: "
        raise _refused(path, [f"{at}{getattr(broken, 'problem', None) or broken}"]) from None
    twice = _twice(node)
    if twice:
        raise _refused(path, twice)
    try:
        rules = Rules.model_validate(raw or {})
    except ValidationError as error:
        faults = [
            f"line {_line(node, e['loc'])}: {'.'.join(map(str, e['loc'])) or 'rules'}: {e['msg']}"
            for e in error.errors()
        ]
        raise _refused(path, faults) from None
    faults = _senseless(rules, node, tables, jurisdiction)
    if faults:
        raise _refused(path, faults)
    return rules


def _senseless(
    rules: Rules, node: yaml.Node | None, tables: ClinicalTables, jurisdiction: str
) -> list[str]:
    """What is well written and still cannot work: unknown names, rules that never come to pass."""
    faults = []
    for number, rule in enumerate(rules.rules):
        here = ("rules", number)
        asked = {"jurisdiction": jurisdiction, **rule.then.asked("left")}
        try:
            check_request(clinical_inputs(AnalysisRequest.model_validate(asked)), tables)
        except ClinicError as error:
            line = _line(node, (*here, "then", *([error.field] if error.field else [])))
            faults.append(
                f"line {line}: rules.{number}.then ({rule.name}): {error.message} {error.remedy}"
            )
        for earlier in rules.rules[:number]:
            line = _line(node, here)
            if earlier.name == rule.name:
                faults.append(f"line {line}: rules.{number}.name: {rule.name!r} is used twice")
            elif _covers(earlier.when, rule.when):
                faults.append(
                    f"line {line}: rules.{number} ({rule.name}) can never decide: the rule "
                    f"{earlier.name!r} before it matches all that it does"
                )
    return faults


def _covers(earlier: Conditions, later: Conditions) -> bool:
    """True if whatever fulfils `later` fulfils `earlier`, as far as can be told at a glance."""
    for name, wanted in earlier:
        other = getattr(later, name)
        if wanted is None:
            continue
        if other is None:
            return False
        if isinstance(wanted, str):
            if wanted != other:
                return False
        elif not {w.casefold() for w in other} <= {w.casefold() for w in wanted}:
            return False
    return True


def _line(node: yaml.Node | None, place: Sequence[int | str]) -> int:
    """The line, from 1, of a place in the file, or of the nearest part of it that is there."""
    line = 1 if node is None else node.start_mark.line + 1
    for step in place:
        child = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    line, child = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            child = next(iter(node.value[step : step + 1]), None)
            line = line if child is None else child.start_mark.line + 1
        if child is None:
            break
        node = child
    return line


def _twice(node: yaml.Node | None) -> list[str]:
    """Keys that stand twice in one mapping: YAML would silently take the last."""
    if isinstance(node, yaml.SequenceNode):
        return [fault for child in node.value for fault in _twice(child)]
    if not isinstance(node, yaml.MappingNode):
        return []
    faults, seen = [], set()
    for key, value in node.value:
        if key.value in seen:
            faults.append(f"line {key.start_mark.line + 1}: {key.value} stands here twice")
        seen.add(key.value)
        faults += _twice(value)
    return faults


def _refused(path: Path, faults: Sequence[str]) -> RulesRefused:
    return RulesRefused(
        f"The routing rules in {path.name} cannot be used: " + "; ".join(faults[:20]) + ".",
        remedy="Correct the lines named here; `sonodose check-rules FILE` checks the file again.",
    )
