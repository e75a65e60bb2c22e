"""Routing rules: what they match, which one decides, and what a bad file is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.clinic.tables import ClinicalTables, load_tables
from app.errors import RulesRefused
from app.intake.routing import Conditions, Image, Target, checks, load_rules, match

EXAMPLE = Path(__file__).parents[3] / "docs" / "routing.example.yaml"
ARM: dict[str, Any] = {
    "modality": "US",
    "body_part": "UPPERARM",
    "laterality": "L",
    "study_description": "US Arm links",
    "series_description": "Biceps quer",
    "protocol": "MSK",
    "accession": "BTX-7",
    "anatomic_regions": ["SCT:40983000"],
    "procedures": ["LN:24534-0"],
    "orders": ["BTX-7", "REQ-1"],
}


@pytest.fixture(scope="module")
def tables() -> ClinicalTables:
    return load_tables(None)


def rules_of(tmp_path: Path, text: str, tables: ClinicalTables) -> Any:
    file = tmp_path / "rules.yaml"
    file.write_text(text, "utf-8")
    return load_rules(file, tables, jurisdiction="US")


def one(when: str, then: str = "{muscle: biceps_brachii}") -> str:
    return f"rules:\n  - name: arm\n    when: {when}\n    then: {then}\n"


@pytest.mark.parametrize(
    "when",
    [
        "{}",
        "{body_part: upperarm}",
        "{body_part: [LEG, UPPERARM]}",
        "{region: SCT:40983000}",
        "{region: '40983000'}",
        "{laterality: L}",
        "{description: 'biceps|brachii'}",
        "{description: ^us arm}",
        "{description: MSK}",
        "{procedure: 24534-0}",
        "{order: ^REQ-}",
        "{order: BTX}",
        "{calling_ae: SCANNER1}",
        "{modality: US, body_part: UPPERARM, order: BTX, calling_ae: [SCANNER1, SCANNER2]}",
    ],
)
def test_a_condition_that_holds(when: str, tmp_path: Path, tables: ClinicalTables) -> None:
    """Each condition finds what the header says, whatever its case."""
    rules = rules_of(tmp_path, one(when), tables)
    found = match(rules, Image(identity=ARM, calling_ae="SCANNER1"))
    assert found is not None
    assert found.side == "left"


@pytest.mark.parametrize(
    "when",
    [
        "{body_part: ARM}",
        "{region: SRT:40983000}",
        "{laterality: R}",
        "{description: triceps}",
        "{procedure: '24534'}",
        "{order: ^7}",
        "{calling_ae: SCANNER9}",
        "{modality: [SC, OT]}",
        "{body_part: UPPERARM, laterality: R}",
    ],
)
def test_a_condition_that_does_not_hold(when: str, tmp_path: Path, tables: ClinicalTables) -> None:
    """One condition that does not hold is enough for a rule not to match."""
    rules = rules_of(tmp_path, one(when), tables)
    assert match(rules, Image(identity=ARM, calling_ae="SCANNER1")) is None


def test_what_is_not_said_matches_nothing(tmp_path: Path, tables: ClinicalTables) -> None:
    """An image without the attribute fulfils no condition on it, not even .*"""
    for when in ("{body_part: ''}", "{description: ''}"):
        with pytest.raises(RulesRefused):
            rules_of(tmp_path, one(when), tables)
    rules = rules_of(tmp_path, one("{description: '.*'}"), tables)
    assert match(rules, Image(identity={})) is None


def test_the_first_rule_decides(tmp_path: Path, tables: ClinicalTables) -> None:
    """Of two rules that match the first in the file decides."""
    text = (
        "rules:\n"
        "  - {name: biceps, when: {description: biceps}, then: {muscle: biceps_brachii}}\n"
        "  - {name: arm, when: {body_part: UPPERARM}, then: {muscle: triceps_brachii}}\n"
    )
    found = match(rules_of(tmp_path, text, tables), Image(identity=ARM))
    assert found is not None
    assert found.rule.name == "biceps"


@pytest.mark.parametrize(
    ("laterality", "said", "side"),
    [
        ("L", "from_image", "left"),
        ("R", "from_image", "right"),
        ("B", "from_image", None),
        (None, "from_image", None),
        (None, "left", "left"),
        ("R", "left", "left"),
    ],
)
def test_the_side(
    laterality: str | None, said: str, side: str | None, tmp_path: Path, tables: ClinicalTables
) -> None:
    """A side comes from the rule, or from an image that names one; it is never guessed."""
    rules = rules_of(tmp_path, one("{}", f"{{muscle: biceps_brachii, side: {said}}}"), tables)
    found = match(rules, Image(identity={**ARM, "laterality": laterality}))
    assert found is not None
    assert found.side == side


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("rules: [\n", 2, ""),
        ("rulez: []\n", 1, "rulez"),
        (one("{bodypart: ARM}"), 3, "rules.0.when.bodypart"),
        (one("{body_part: []}"), 3, "rules.0.when.body_part"),
        (one("{region: 40983000}"), 3, "in quotes"),
        (one("{description: '('}"), 3, "no regular expression"),
        (one("{}", "{muscle: bicep}"), 4, "biceps_brachii"),
        (one("{}", "{muscle: biceps_brachii, side: middle}"), 4, "rules.0.then.side"),
        (one("{}", "{muscle: biceps_brachii, product: NOTOX}"), 4, "NOTOX"),
        (one("{}", "{}"), 4, "rules.0.then.muscle"),
        (one("{}") + "    when: {modality: US}\n", 5, "when stands here twice"),
        (one("{}") + one("{}")[7:], 5, "'arm' is used twice"),
        (
            one("{body_part: [ARM, LEG]}")
            + one("{body_part: arm, modality: US}")[7:].replace("arm\n", "late\n", 1),
            5,
            "can never decide",
        ),
    ],
)
def test_a_bad_file_is_told_where(
    text: str, line: int, words: str, tmp_path: Path, tables: ClinicalTables
) -> None:
    """A file with a fault is refused with the line and the field of the fault."""
    with pytest.raises(RulesRefused) as refused:
        rules_of(tmp_path, text, tables)
    assert f"line {line}: " in refused.value.message
    assert words in refused.value.message


def test_checks_say_why(tmp_path: Path, tables: ClinicalTables) -> None:
    """The checks of a rule name what was wanted and what was found."""
    rules = rules_of(tmp_path, one("{body_part: LEG, description: biceps}"), tables)
    body, description = checks(rules.rules[0], Image(identity=ARM))
    assert (body.condition, body.wanted, body.found, body.holds) == (
        "body_part",
        "LEG",
        ("UPPERARM",),
        False,
    )
    assert description.holds


def test_the_example_is_usable(tables: ClinicalTables) -> None:
    """The example of docs/routing.md loads, and its first rule decides for such an order."""
    rules = load_rules(EXAMPLE, tables, jurisdiction="US")
    found = match(rules, Image(identity={**ARM, "accession": "BTX-BIC-1", "orders": []}))
    assert found is not None
    assert found.rule.name == "biceps by its order"
    assert found.side == "left"


def test_the_documentation_names_every_condition() -> None:
    """docs/routing.md has a line for each condition and names each field of a target."""
    text = EXAMPLE.with_name("routing.md").read_text("utf-8")
    assert all(f"| `{name}` |" in text for name in Conditions.model_fields)
    assert all(f"`{name}`" in text for name in Target.model_fields)
