"""The tables: complete, sourced, overridable by a site, refused when a row is not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.clinic.dose_rows import DoseRefused
from app.clinic.dosing import DosePlan
from app.clinic.errors import TableError
from app.clinic.evidence import Grade
from app.clinic.inputs import Patient
from app.clinic.plan import plan_muscle, what_if
from app.clinic.plan_json import plan_to_json
from app.clinic.tables import (
    CSV_KEYS,
    DATA,
    MANIFEST,
    YAML_FILES,
    ClinicalTables,
    load_tables,
    missing,
)
from app.clinic.volume import VolumeUnknown

UNKNOWN = VolumeUnknown(reason="not measured", remedy="-")


def shipped(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def head_of(name: str) -> str:
    return shipped(name).splitlines()[0]


def write(folder: Path, name: str, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_everything_is_there(tables: ClinicalTables) -> None:
    """All muscles, products, dose rows and caps of the evidence are in the tables."""
    assert len(tables.muscles) == 48
    assert set(tables.products) == {"BOTOX", "XEOMIN", "DYSPORT", "MYOBLOC", "DAXXIFY"}
    assert len(tables.dose_rows) == 118
    assert len(tables.caps) == 38 + 3  # three caps of the Singapore label stand in their own rows
    names = {row.muscle for row in tables.dose_rows}
    assert names <= set(tables.muscles) | set(tables.groups)
    assert re.fullmatch(r"[0-9a-f]{64}", tables.sha256)
    assert tables.override is None


def test_every_row_is_sourced(tables: ClinicalTables) -> None:
    """Every source that any row names is in the table of sources, and no row names none."""
    rows: list[Any] = [
        *tables.products.values(),
        *tables.indications,
        *tables.dose_rows,
        *tables.caps,
        *tables.muscles.values(),
        *tables.groups.values(),
        *tables.zones,
        *tables.equations,
        *tables.cautions.values(),
        *tables.policy.entries.values(),
    ]
    for row in rows:
        assert row.sources
        assert set(row.sources) <= set(tables.sources)
        assert row.grade


def test_policy_is_marked_as_judgement(tables: ClinicalTables) -> None:
    """Every number of the policy says that it is judgement, and why it is what it is."""
    for entry in tables.policy.entries.values():
        assert entry.grade is Grade.JUDGEMENT
        assert entry.why
        assert entry.unit


def test_what_is_missing_is_listed(tables: ClinicalTables) -> None:
    """The list names the missing ranges, caps, reference volumes and zones."""
    found = {(m.table, m.row) for m in missing(tables)}
    assert ("dose_rows", "BOTOX/upper_limb_spasticity/adult/US/pronator_teres") in found
    assert ("dose_rows", "DYSPORT/cervical_dystonia/adult/US") in found
    assert ("caps", "XEOMIN/any/site/any") in found
    assert ("caps", "DAXXIFY/adult/interval/any") in found
    assert ("muscles", "deltoid") in found  # its hazards
    assert ("muscles", "pronator_quadratus") in found
    assert ("endplate_zones", "soleus") in found


def test_no_row_comes_from_recollection_alone(tables: ClinicalTables) -> None:
    """A dose row that rests on recollection is graded as corroborated and names a second source."""
    for row in tables.dose_rows:
        if "GK" in row.sources:
            assert row.grade is Grade.CORROBORATED
            assert len(row.sources) > 1


# --- a site's own tables ----------------------------------------------------------------------


def site_rows(folder: Path) -> Path:
    write(
        folder,
        "sources.csv",
        head_of("sources.csv"),
        "SITE_CD,Reviewed by the clinic's physicians,,site,",
    )
    write(
        folder,
        "dose_rows.csv",
        head_of("dose_rows.csv"),
        "XEOMIN,cervical_dystonia,adult,US,sternocleidomastoid,10,50,,,1,3,site,SITE_CD,",
    )
    return folder


def test_a_site_row_works_at_once_and_is_named(make: Any, tmp_path: Path) -> None:
    """Cervical dystonia is refused, and planned as soon as the site has its own reviewed row."""
    inputs = make.inputs(muscle="sternocleidomastoid", indication="cervical_dystonia")
    refused = what_if(inputs, UNKNOWN, load_tables())
    assert isinstance(refused, DoseRefused)
    assert refused.missing_field is not None
    assert "XEOMIN/cervical_dystonia/adult/US/sternocleidomastoid" in refused.missing_field
    own = load_tables(site_rows(tmp_path / "site"))
    plan = plan_muscle(inputs, make.observation(), own, today=make.today)
    assert isinstance(plan.dose, DosePlan)
    assert plan.dose.row.origin == "site"
    assert "site_row" in {c.code for c in plan.cautions}
    named = plan_to_json(plan)["tables"]["override"]
    assert named["name"] == "site"
    assert named["tables"] == ["dose_rows.csv", "sources.csv"]
    assert own.sha256 != load_tables().sha256


def test_one_file_is_enough_and_replaces_a_row(make: Any, tmp_path: Path) -> None:
    """A single file named as its table replaces the row with the same key."""
    path = write(
        tmp_path,
        "dose_rows.csv",
        head_of("dose_rows.csv"),
        "XEOMIN,upper_limb_spasticity,adult,US,biceps_brachii,50,80,,,1,4,site,L_XEO_MEDLIB,",
    )
    dose = what_if(make.inputs(), UNKNOWN, load_tables(path))
    assert isinstance(dose, DosePlan)
    assert dose.label_max_units == 80


def test_a_site_changes_one_policy_number(tmp_path: Path) -> None:
    """A site's policy file holds only what it changes, and the entry says whose it is."""
    write(tmp_path / "site", "policy.yaml", "site_margin_mm: {value: 4}")
    policy = load_tables(tmp_path / "site").policy
    assert policy.site_margin_mm == 4
    assert policy.entries["site_margin_mm"].origin == "site"
    assert policy.entries["avoid_margin_mm"].origin == ""


def test_a_site_adds_an_equation(tmp_path: Path) -> None:
    """An equation file of the site adds to the shipped equations by id."""
    entry = shipped("equations.yaml").split("- id: bandholm2007_soleus")[1]
    path = write(tmp_path, "equations.yaml", "- id: own_soleus" + entry)
    assert [e.id for e in load_tables(path).equations][-1] == "own_soleus"


BROKEN_CSV = {
    "no source": ("dose_rows.csv", "XEOMIN,cervical_dystonia,adult,US,trapezius,1,2,,,1,1,site,,"),
    "unknown source": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,1,2,,,1,1,site,HEARSAY,",
    ),
    "no grade": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,1,2,,,1,1,,L_XEO_CD,",
    ),
    "half a range": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,1,,,,1,1,site,L_XEO_CD,",
    ),
    "other half": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,,2,,,1,1,site,L_XEO_CD,",
    ),
    "range upside down": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,5,2,,,1,1,site,L_XEO_CD,",
    ),
    "range from zero": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,0,2,,,1,1,site,L_XEO_CD,",
    ),
    "two ranges": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,1,2,1,2,1,1,site,L_XEO_CD,",
    ),
    "no number": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,few,2,,,1,1,site,L_XEO_CD,",
    ),
    "not finite": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,trapezius,1,inf,,,1,1,site,L_XEO_CD,",
    ),
    "unknown population": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,elderly,US,trapezius,1,2,,,1,1,site,L_XEO_CD,",
    ),
    "any population": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,any,US,trapezius,1,2,,,1,1,site,L_XEO_CD,",
    ),
    "unknown muscle": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,tongue,1,2,,,1,1,site,L_XEO_CD,",
    ),
    "unknown product": (
        "dose_rows.csv",
        "NEWTOX,cervical_dystonia,adult,US,trapezius,1,2,,,1,1,site,L_XEO_CD,",
    ),
    "missing cell": ("dose_rows.csv", "XEOMIN,cervical_dystonia,adult"),
    "empty muscle": (
        "dose_rows.csv",
        "XEOMIN,cervical_dystonia,adult,US,,1,2,,,1,1,site,L_XEO_CD,",
    ),
    "unknown kind": ("caps.csv", "XEOMIN,adult,US,yearly,any,units,9,,site,L_XEO_CD,"),
    "weeks in a session": ("caps.csv", "XEOMIN,adult,US,session,any,weeks,9,,site,L_XEO_CD,"),
    "mL in a session": ("caps.csv", "XEOMIN,adult,US,session,any,ml,9,,site,L_XEO_CD,"),
    "Units in an interval": ("caps.csv", "XEOMIN,adult,US,interval,any,units,9,,site,L_XEO_CD,"),
    "cap of zero": ("caps.csv", "XEOMIN,adult,US,session,any,units,0,,site,L_XEO_CD,"),
    "no window": ("caps.csv", "XEOMIN,adult,US,cumulative,any,units,9,,site,L_XEO_CD,"),
    "unknown group kind": (
        "groups.csv",
        "both_arms,Both arms,arm,upper_limb,pair,,,site,L_XEO_CD,",
    ),
    "member unknown": (
        "groups.csv",
        "both_arms,Both arms,arm,upper_limb,group,left_arm,,site,L_XEO_CD,",
    ),
    "zone without a direction": (
        "endplate_zones.csv",
        "deltoid,line,a line,,10,20,maybe,site,L_XEO_CD,,",
    ),
    "zone without an end": ("endplate_zones.csv", "deltoid,line,a line,,10,,no,site,L_XEO_CD,,"),
    "zone without percentages": (
        "endplate_zones.csv",
        "deltoid,line,a line,,,,yes,site,L_XEO_CD,,",
    ),
    "zone upside down": ("endplate_zones.csv", "deltoid,line,a line,,30,20,yes,site,L_XEO_CD,,"),
    "unknown effect": ("cautions.csv", "x,safety,,perhaps,Is it?,It is.,site,L_XEO_CD"),
    "unknown caution kind": ("cautions.csv", "x,other,,stop,Is it?,It is.,site,L_XEO_CD"),
    "product without a step": ("products.csv", "NEWTOX,newtoxin,A,site,L_XEO_CD,"),
}


@pytest.mark.parametrize("name", BROKEN_CSV)
def test_a_broken_row_is_refused(tmp_path: Path, name: str) -> None:
    """A row that lacks a source, a grade or sense is refused with the way out."""
    table, row = BROKEN_CSV[name]
    if name == "product without a step":
        write(
            tmp_path / "s",
            "dose_rows.csv",
            head_of("dose_rows.csv"),
            "NEWTOX,cervical_dystonia,adult,US,trapezius,1,2,,,1,1,site,L_XEO_CD,",
        )
    write(tmp_path / "s", table, head_of(table), row)
    with pytest.raises(TableError) as caught:
        load_tables(tmp_path / "s")
    assert caught.value.remedy


def muscle_row(**changed: str) -> str:
    columns = head_of("muscles.csv").split(",")
    row = dict.fromkeys(columns, "") | {
        "name": "anconeus",
        "english": "Anconeus",
        "latin": "M. anconeus",
        "region": "forearm",
        "limb": "upper_limb",
        "grade": "site",
        "sources": "L_XEO_CD",
        "reference_grade": "site",
        "reference_sources": "L_XEO_CD",
    }
    return ",".join((row | changed).values())


@pytest.mark.parametrize(
    "changed",
    [
        {"reference_mean_ml": "10", "reference_slope_ml_per_m_kg": "1"},
        {"reference_slope_ml_per_m_kg": "1"},
        {"reference_intercept_ml": "1"},
        {"reference_mean_ml": "-3"},
        {"reference_mean_ml": "10", "reference_sources": ""},
        {"hazard": "nerve close by"},
    ],
)
def test_a_broken_muscle_is_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    """A reference volume is a mean or a line with its source, and a hazard has a source."""
    path = write(tmp_path, "muscles.csv", head_of("muscles.csv"), muscle_row(**changed))
    with pytest.raises(TableError):
        load_tables(path)


def test_a_site_muscle_with_a_mean_without_sd(make: Any, tmp_path: Path) -> None:
    """A mean without spread gets the policy's band."""
    path = write(
        tmp_path, "muscles.csv", head_of("muscles.csv"), muscle_row(reference_mean_ml="10")
    )
    from app.clinic.volume import Reference, reference_volume

    found = reference_volume("anconeus", Patient(age_years=40), load_tables(path))
    assert isinstance(found, Reference)
    assert found.band_ml == pytest.approx((6.0, 14.0))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy.yaml", "site_margin_mm: {value: nothing}"),
        ("policy.yaml", "site_margin_mm: {value: 0.5}"),
        ("policy.yaml", "site_margin_mm: {sources: []}"),
        ("policy.yaml", "site_margin_mm: {sources: [HEARSAY]}"),
        ("policy.yaml", "site_margin_mm: {grade: sure}"),
        ("policy.yaml", "luck: {value: 1}"),
        ("policy.yaml", "volume_ratio_bounds: {value: [1.1, 1.2]}"),
        ("policy.yaml", "volume_ratio_bounds: {value: [0.5]}"),
        ("policy.yaml", 'severity_position_mas: {value: {"0": 0.5, "1": 0.2}}'),
        ("policy.yaml", "dispensing_step_units: {value: {XEOMIN: 0}}"),
        ("policy.yaml", "dilution_usual_units_per_ml: {value: {XEOMIN: [5, 1]}}"),
        ("policy.yaml", "a: [b"),
        ("equations.yaml", "- {id: own}"),
        ("equations.yaml", "- {id: own, result: soleus, covers: [soleus], range_mm: 3}"),
    ],
)
def test_a_broken_yaml_is_refused(tmp_path: Path, name: str, text: str) -> None:
    """A policy or equation that cannot hold is refused with the way out."""
    with pytest.raises(TableError) as caught:
        load_tables(write(tmp_path, name, text))
    assert caught.value.remedy


def test_an_equation_needs_a_grade(tmp_path: Path) -> None:
    """An equation without a grade is refused."""
    text = shipped("equations.yaml").replace("  grade: paper\n", "", 1)
    with pytest.raises(TableError, match="no evidence grade"):
        load_tables(write(tmp_path, "equations.yaml", text))


@pytest.mark.parametrize("judged", ["", "  judged: [colour]\n"])
def test_an_equation_names_its_judged_ranges(tmp_path: Path, judged: str) -> None:
    """An equation that does not say which of its ranges are judgement is refused."""
    text = shipped("equations.yaml").replace("  judged: [thickness, limb]\n", judged, 1)
    with pytest.raises(TableError, match="judged"):
        load_tables(write(tmp_path, "equations.yaml", text))


def test_an_override_that_is_not_there(tmp_path: Path) -> None:
    """A folder that does not exist is refused."""
    with pytest.raises(TableError, match="do not exist"):
        load_tables(tmp_path / "nowhere")


def test_an_override_that_touches_nothing(tmp_path: Path) -> None:
    """A folder without a table of ours is refused, so that a misnamed file is noticed."""
    write(tmp_path / "site", "doses.csv", "a,b")
    with pytest.raises(TableError, match="holds no table"):
        load_tables(tmp_path / "site")


def test_an_override_with_other_columns(tmp_path: Path) -> None:
    """A site's table has the columns of ours."""
    with pytest.raises(TableError, match="columns differ"):
        load_tables(write(tmp_path, "caps.csv", "product,value", "XEOMIN,3"))


def test_two_rows_with_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of one table with the same key are refused."""
    copy = tmp_path / "data"
    copy.mkdir()
    for path in DATA.iterdir():
        text = path.read_text(encoding="utf-8")
        if path.name == "products.csv":
            text += text.splitlines()[1] + "\n"
        (copy / path.name).write_text(text, encoding="utf-8")
    monkeypatch.setattr("app.clinic.tables.DATA", copy)
    with pytest.raises(TableError, match="same key"):
        load_tables()


def test_csv_keys_name_every_shipped_table() -> None:
    """Every shipped table is read, and but for the manifest a site can override it; the page
    about them names each."""
    tables = {path.name for path in DATA.iterdir() if path.suffix in (".csv", ".yaml")}
    assert tables == {*CSV_KEYS, *YAML_FILES, MANIFEST}
    about = (DATA / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in about for name in tables)


def test_a_row_without_a_range_refuses_by_its_name(tables: ClinicalTables) -> None:
    """A missing range stays missing, whatever the weight."""
    row = next(row for row in tables.dose_rows if row.units is not None)
    missing = replace(row, units=None, units_per_kg=None)
    for weight_kg in (None, 70.0):
        with pytest.raises(ValueError, match="no range in Units"):
            missing.range_units(weight_kg)
