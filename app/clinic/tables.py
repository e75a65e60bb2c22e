"""The clinical tables, read from files that a physician can review.

Every row has a source and a grade, or the tables are refused. A site's own reviewed files lie in
one folder (or are one file) named as ours: their rows replace the rows with the same key and add
new ones; the override is named, with its hash, in every plan.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from app.clinic.errors import TableError
from app.clinic.evidence import (
    Cap,
    CapKind,
    CautionRule,
    DoseRow,
    Grade,
    Indication,
    Source,
    VolumeEquation,
)
from app.clinic.muscles import (
    BodySizeReference,
    EndplateZone,
    Muscle,
    MuscleGroup,
    ReferenceVolume,
    SampleReference,
)
from app.clinic.policy import Policy, PolicyEntry, read_policy
from app.clinic.products import Product

DATA = Path(__file__).parent / "data"

CSV_KEYS: Mapping[str, tuple[str, ...]] = {
    "sources.csv": ("id",),
    "products.csv": ("product",),
    "indications.csv": ("product", "indication", "population", "jurisdiction"),
    "dose_rows.csv": ("product", "indication", "population", "jurisdiction", "muscle"),
    "caps.csv": ("product", "population", "jurisdiction", "kind", "where", "unit"),
    "muscles.csv": ("name",),
    "groups.csv": ("name",),
    "endplate_zones.csv": ("muscle", "line", "part", "from_percent"),
    "cautions.csv": ("code",),
}
"""The columns that name a row: an overriding row replaces the row with the same key."""

YAML_FILES = ("equations.yaml", "policy.yaml")
MANIFEST = "manifest.yaml"

Row = Mapping[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOverride:
    """A site's own tables: the folder's or file's name, its hash and the tables it touches."""

    name: str
    sha256: str
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalTables:
    """All clinical tables with version and hash; `override` names a site's own, if any."""

    version: str
    read_on: str
    sha256: str
    override: TableOverride | None
    sources: Mapping[str, Source]
    products: Mapping[str, Product]
    indications: tuple[Indication, ...]
    dose_rows: tuple[DoseRow, ...]
    caps: tuple[Cap, ...]
    muscles: Mapping[str, Muscle]
    groups: Mapping[str, MuscleGroup]
    zones: tuple[EndplateZone, ...]
    equations: tuple[VolumeEquation, ...]
    cautions: Mapping[str, CautionRule]
    policy: Policy

    def knows_muscle(self, name: str) -> bool:
        """True for a muscle or a group."""
        return name in self.muscles or name in self.groups

    def is_group(self, name: str) -> bool:
        """True for a name that means several muscles, or a part of one."""
        return name in self.groups and not self.groups[name].is_single

    def english(self, name: str) -> str:
        """The plain name of a muscle or group."""
        return (self.groups.get(name) or self.muscles[name]).english

    def limb_of(self, name: str) -> str:
        """`upper_limb`, `lower_limb` or `neck`: the part of the body that caps count by."""
        return (self.groups.get(name) or self.muscles[name]).limb

    def groups_with(self, member: str) -> tuple[str, ...]:
        """The groups that a muscle is a member of."""
        return tuple(g.name for g in self.groups.values() if member in g.members)

    def zones_of(self, muscle: str) -> tuple[EndplateZone, ...]:
        """The endplate zones found for a muscle, in the order of the table."""
        return tuple(z for z in self.zones if z.muscle == muscle)


def load_tables(override: Path | None = None) -> ClinicalTables:
    """The shipped tables, with a site's own folder or file laid over them.

    Raises TableError naming file, line and way out for a row without source or grade, a number
    that is none, a name that is in no table, or an override that touches no table.
    """
    own = {name: (DATA / name).read_bytes() for name in (*CSV_KEYS, *YAML_FILES, MANIFEST)}
    site, marker = _read_override(override)
    texts = {name: data.decode("utf-8-sig") for name, data in own.items()}
    over = {name: data.decode("utf-8-sig") for name, data in site.items()}
    label = "" if marker is None else marker.name
    rows = {name: _merged_csv(name, texts[name], over.get(name), label) for name in CSV_KEYS}
    manifest = _yaml(MANIFEST, texts[MANIFEST])
    sources = {
        row["id"]: Source(
            id=row["id"],
            citation=row["citation"],
            url=row["url"],
            kind=row["kind"],
            note=row["note"],
        )
        for _, row in rows["sources.csv"]
    }

    def build(name: str, make: Callable[[_Reader], T]) -> tuple[T, ...]:
        return tuple(make(_Reader(name, line, row, sources, label)) for line, row in rows[name])

    tables = ClinicalTables(
        version=str(manifest["version"]),
        read_on=str(manifest["read_on"]),
        sha256=_digest({**own, **{f"override/{name}": data for name, data in site.items()}}),
        override=marker,
        sources=sources,
        products={p.name: p for p in build("products.csv", _product)},
        indications=build("indications.csv", _indication),
        dose_rows=build("dose_rows.csv", _dose_row),
        caps=build("caps.csv", _cap),
        muscles={m.name: m for m in build("muscles.csv", _muscle)},
        groups={g.name: g for g in build("groups.csv", _group)},
        zones=build("endplate_zones.csv", _zone),
        equations=_equations(texts["equations.yaml"], over.get("equations.yaml"), sources),
        cautions={c.code: c for c in build("cautions.csv", _caution)},
        policy=_policy(texts["policy.yaml"], over.get("policy.yaml"), sources, label),
    )
    _check_names(tables)
    return tables


def _read_override(override: Path | None) -> tuple[dict[str, bytes], TableOverride | None]:
    if override is None:
        return {}, None
    if override.is_dir():
        paths = sorted(p for p in override.iterdir() if p.is_file())
    elif override.is_file():
        paths = [override]
    else:
        raise TableError(
            f"The site's own tables at {override} do not exist.",
            remedy="Give the folder, or the one file, that holds the reviewed rows.",
        )
    known = (*CSV_KEYS, *YAML_FILES)
    files = {p.name: p.read_bytes() for p in paths if p.name in known}
    if not files:
        raise TableError(
            f"{override.name} holds no table that can be overridden.",
            remedy=f"Name the file as the table that it changes: {', '.join(known)}.",
        )
    return files, TableOverride(name=override.name, sha256=_digest(files), tables=tuple(files))


def _digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over names and contents in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return digest.hexdigest()


def _merged_csv(
    name: str, text: str, over: str | None, label: str
) -> list[tuple[str, dict[str, str]]]:
    """(where it stands, row) of our file with the site's rows laid over it."""
    head, rows = _csv(name, text, "")
    merged = {tuple(row[k] for k in CSV_KEYS[name]): (line, row) for line, row in rows}
    if len(merged) != len(rows):
        raise TableError(
            f"{name}: two rows have the same key ({', '.join(CSV_KEYS[name])}).",
            remedy="Keep one of them.",
        )
    if over is not None:
        site_head, site_rows = _csv(name, over, label)
        if site_head != head:
            raise TableError(
                f"{label} {name}: the columns differ from the shipped table's.",
                remedy=f"Use the columns {', '.join(head)}.",
            )
        merged.update({tuple(row[k] for k in CSV_KEYS[name]): (at, row) for at, row in site_rows})
    return list(merged.values())


def _csv(name: str, text: str, label: str) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    reader = csv.reader(io.StringIO(text))
    head = next(reader, [])
    rows = []
    for number, cells in enumerate(reader, start=2):
        where = f"{label} {name} row {number}".strip()
        if len(cells) != len(head):
            raise TableError(
                f"{where}: {len(cells)} cells where the head has {len(head)}.",
                remedy="Fill every column; leave a cell empty where nothing was found.",
            )
        row = {key: cell.strip() for key, cell in zip(head, cells, strict=True)}
        rows.append((where, {**row, "_origin": label}))
    return head, rows


def _yaml(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise TableError(
            f"{name} cannot be read: {problem}.", remedy="Correct the file's YAML."
        ) from problem


class _Reader:
    """One row with typed access; every failure names file and row."""

    def __init__(
        self, name: str, where: str, row: Row, sources: Mapping[str, Source], label: str
    ) -> None:
        self.name, self.where, self.row, self.known = name, where, row, sources

    def fail(self, what: str, remedy: str) -> TableError:
        return TableError(f"{self.where}: {what}.", remedy=remedy)

    def text(self, column: str) -> str:
        return self.row[column]

    def maybe(self, column: str) -> str | None:
        return self.row[column] or None

    def needed(self, column: str) -> str:
        value = self.row[column]
        if not value:
            raise self.fail(f"{column} is empty", f"Fill in {column}.")
        return value

    def names(self, column: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.row[column].split(";") if part.strip())

    def sources(self, column: str = "sources") -> tuple[str, ...]:
        found = self.names(column)
        unknown = [name for name in found if name not in self.known]
        if not found or unknown:
            raise self.fail(
                f"{column} names {', '.join(unknown) or 'no source'}",
                "Every row states its sources by an id of sources.csv.",
            )
        return found

    def grade(self, column: str = "grade") -> Grade:
        try:
            return Grade(self.row[column])
        except ValueError as problem:
            raise self.fail(
                f"{column} {self.row[column]!r} is no evidence grade",
                f"Use one of: {', '.join(Grade)}.",
            ) from problem

    def number(self, column: str) -> float | None:
        text = self.row[column]
        if not text:
            return None
        try:
            value = float(text)
        except ValueError as problem:
            raise self.fail(f"{column} {text!r} is no number", "Write a plain number.") from problem
        if not 0 <= abs(value) < 1e6:
            raise self.fail(f"{column} {text} cannot be true", "Write a plain number.")
        return value

    def pair(self, column: str) -> tuple[float, float] | None:
        low, high = self.number(f"{column}_min"), self.number(f"{column}_max")
        if low is None and high is None:
            return None
        if low is None or high is None or not 0 < low <= high:
            raise self.fail(
                f"{column} has no true range ({low} to {high})",
                "Give minimum and maximum above 0, or leave both empty.",
            )
        return low, high


def _product(r: _Reader) -> Product:
    return Product(
        name=r.needed("product"),
        generic=r.needed("generic"),
        serotype=r.needed("serotype"),
        grade=r.grade(),
        sources=r.sources(),
        note=r.text("note"),
    )


def _population(r: _Reader, *extra: str) -> str:
    value = r.needed("population")
    if value not in ("adult", "paediatric", *extra):
        raise r.fail(f"population {value!r} is not known", "Write adult or paediatric.")
    return value


def _indication(r: _Reader) -> Indication:
    return Indication(
        product=r.needed("product"),
        indication=r.needed("indication"),
        population=_population(r),
        jurisdiction=r.needed("jurisdiction"),
        age_min_years=r.number("age_min_years") or 0.0,
        age_max_years=r.number("age_max_years"),
        grade=r.grade(),
        sources=r.sources(),
        note=r.text("note"),
    )


def _dose_row(r: _Reader) -> DoseRow:
    units, per_kg, sites = r.pair("units"), r.pair("units_per_kg"), r.pair("sites")
    if units is not None and per_kg is not None:
        raise r.fail("Units and Units per kg both given", "Keep the one that the source gives.")
    return DoseRow(
        product=r.needed("product"),
        indication=r.needed("indication"),
        population=_population(r),
        jurisdiction=r.needed("jurisdiction"),
        muscle=r.needed("muscle"),
        units=units,
        units_per_kg=per_kg,
        sites=None if sites is None else (int(sites[0]), int(sites[1])),
        grade=r.grade(),
        sources=r.sources(),
        note=r.text("note"),
        origin=r.text("_origin"),
    )


def _cap(r: _Reader) -> Cap:
    try:
        kind = CapKind(r.needed("kind"))
    except ValueError as problem:
        raise r.fail(
            f"kind {r.text('kind')!r} is not known", f"Use one of: {', '.join(CapKind)}."
        ) from problem
    units = ("weeks",) if kind is CapKind.INTERVAL else ("units", "units_per_kg")
    unit, value, window = r.needed("unit"), r.number("value"), r.number("window_weeks")
    if unit not in (*units, *(("ml",) if kind is CapKind.SITE else ())):
        raise r.fail(f"unit {unit!r} does not fit a cap of kind {kind}", f"Use {', '.join(units)}.")
    if value is not None and value <= 0:
        raise r.fail("the cap is not above 0", "Leave the value empty where none was found.")
    if kind is CapKind.CUMULATIVE and window is None:
        raise r.fail("a cumulative cap without window_weeks", "Give the window in weeks.")
    return Cap(
        product=r.needed("product"),
        population=_population(r, "any"),
        jurisdiction=r.needed("jurisdiction"),
        kind=kind,
        where=r.needed("where"),
        unit=unit,
        value=value,
        window_weeks=window,
        grade=r.grade(),
        sources=r.sources(),
        note=r.text("note"),
        origin=r.text("_origin"),
    )


def _reference(r: _Reader) -> ReferenceVolume | None:
    mean, slope = r.number("reference_mean_ml"), r.number("reference_slope_ml_per_m_kg")
    intercept = r.number("reference_intercept_ml")
    if mean is not None and mean > 0 and slope is None:
        return SampleReference(
            mean_ml=mean,
            sd_ml=r.number("reference_sd_ml"),
            population=r.text("reference_population"),
            grade=r.grade("reference_grade"),
            sources=r.sources("reference_sources"),
        )
    if mean is None and slope is not None and intercept is not None:
        return BodySizeReference(
            slope_ml_per_m_kg=slope,
            intercept_ml=intercept,
            grade=r.grade("reference_grade"),
            sources=r.sources("reference_sources"),
        )
    if (mean, slope, intercept) != (None, None, None):
        raise r.fail(
            "the reference volume is neither a mean nor a line",
            "Give a mean above 0 (with its SD), or slope and intercept, or leave all empty.",
        )
    return None


def _muscle(r: _Reader) -> Muscle:
    hazard = r.maybe("hazard")
    return Muscle(
        name=r.needed("name"),
        english=r.needed("english"),
        latin=r.needed("latin"),
        region=r.needed("region"),
        limb=r.needed("limb"),
        uberon=r.maybe("uberon"),
        fma=r.maybe("fma"),
        sct_entire=r.maybe("sct_entire"),
        ncit=r.maybe("ncit"),
        sct_dicom=r.maybe("sct_dicom"),
        reference=_reference(r),
        hazard=hazard,
        hazard_sources=() if hazard is None else r.sources("hazard_sources"),
        grade=r.grade(),
        sources=r.sources(),
        note=r.text("note"),
    )


def _group(r: _Reader) -> MuscleGroup:
    kind = r.needed("kind")
    if kind not in ("group", "part", "single"):
        raise r.fail(f"kind {kind!r} is not known", "Write group, part or single.")
    return MuscleGroup(
        kind=kind,
        name=r.needed("name"),
        english=r.needed("english"),
        region=r.needed("region"),
        limb=r.needed("limb"),
        members=r.names("members"),
        part=r.maybe("part"),
        grade=r.grade(),
        sources=r.sources(),
        note=r.text("note"),
    )


def _zone(r: _Reader) -> EndplateZone:
    low, high = r.number("from_percent"), r.number("to_percent")
    known = r.needed("direction_known")
    if (known not in ("yes", "no")) or (low is None) != (high is None):
        raise r.fail(
            "direction_known is not yes or no, or one end of the zone is missing",
            "Write yes or no, and both percentages or none.",
        )
    if known == "yes" and (low is None or high is None or not 0 <= low <= high <= 100):
        raise r.fail(
            "a zone of known direction without percentages from 0 to 100",
            "Give both percentages, the smaller first, or write no for direction_known.",
        )
    return EndplateZone(
        muscle=r.needed("muscle"),
        line=r.needed("line"),
        reference_line=r.needed("reference_line"),
        part=r.text("part"),
        from_percent=low,
        to_percent=high,
        direction_known=known == "yes",
        grade=r.grade(),
        sources=r.sources(),
        note=r.text("note"),
        conflict=r.text("conflict"),
    )


def _caution(r: _Reader) -> CautionRule:
    effect, kind = r.needed("effect"), r.needed("kind")
    if effect not in ("stop", "caution") or kind not in ("safety", "plan", "dose"):
        raise r.fail(
            f"kind {kind!r} with effect {effect!r} is not known",
            "Kind is safety, plan or dose; effect is stop or caution.",
        )
    return CautionRule(
        code=r.needed("code"),
        kind=kind,
        products=r.names("products"),
        effect=effect,
        question=r.needed("question") if kind == "safety" else r.text("question"),
        text=r.needed("text"),
        grade=r.grade(),
        sources=r.sources(),
    )


def _checked_sources(where: str, given: Any, known: Mapping[str, Source]) -> tuple[str, ...]:
    names = tuple(str(name) for name in given or ())
    unknown = [name for name in names if name not in known]
    if not names or unknown:
        raise TableError(
            f"{where}: names {', '.join(unknown) or 'no source'}.",
            remedy="Every entry states its sources by an id of sources.csv.",
        )
    return names


def _checked_grade(where: str, given: Any) -> Grade:
    try:
        return Grade(given)
    except ValueError as problem:
        raise TableError(
            f"{where}: {given!r} is no evidence grade.",
            remedy=f"Use one of: {', '.join(Grade)}.",
        ) from problem


def _equations(
    text: str, over: str | None, sources: Mapping[str, Source]
) -> tuple[VolumeEquation, ...]:
    entries = {e["id"]: e for e in _yaml("equations.yaml", text)}
    if over is not None:
        entries.update({e["id"]: e for e in _yaml("equations.yaml", over)})
    return tuple(_equation(entry, sources) for entry in entries.values())


def _equation(entry: Mapping[str, Any], sources: Mapping[str, Source]) -> VolumeEquation:
    where = f"equations.yaml {entry['id']}"
    try:
        low_t, high_t = (float(v) for v in entry["range_mm"]["thickness"])
        low_l, high_l = (float(v) for v in entry["range_mm"]["limb"])
        low_a, high_a = (float(v) for v in entry["age_years"])
        return VolumeEquation(
            id=str(entry["id"]),
            result=str(entry["result"]),
            covers=tuple(entry["covers"]),
            measurement=str(entry["measurement"]),
            taken=" ".join(str(entry["taken"]).split()),
            position=str(entry["position"]),
            thickness_ml_per_cm=float(entry["thickness_ml_per_cm"]),
            limb_ml_per_cm=float(entry["limb_ml_per_cm"]),
            constant_ml=float(entry["constant_ml"]),
            thickness_range_mm=(low_t, high_t),
            limb_range_mm=(low_l, high_l),
            age_range_years=(low_a, high_a),
            relative_error=float(entry["relative_error"]),
            published_error=str(entry["published_error"]),
            population=str(entry["population"]),
            judged=_judged(entry["judged"]),
            grade=_checked_grade(where, entry.get("grade")),
            sources=_checked_sources(where, entry.get("sources"), sources),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise TableError(
            f"{where}: {problem} is missing or malformed.",
            remedy="An equation states its measurement, position, result, coefficients, ranges "
            "and which of them are judged, error, grade and sources.",
        ) from problem


def _judged(names: Any) -> tuple[str, ...]:
    unknown = set(names) - {"thickness", "limb", "age"}
    if unknown:
        raise ValueError(f"judged: {', '.join(sorted(unknown))}")
    return tuple(names)


def _policy(text: str, over: str | None, sources: Mapping[str, Source], label: str) -> Policy:
    entries = {name: (entry, "") for name, entry in _yaml("policy.yaml", text).items()}
    if over is not None:
        for name, entry in _yaml("policy.yaml", over).items():
            if name not in entries:
                raise TableError(
                    f"{label} policy.yaml: {name} is no policy entry.",
                    remedy=f"Use one of: {', '.join(entries)}.",
                )
            entries[name] = ({**entries[name][0], **entry}, label)
    return read_policy(
        {
            name: PolicyEntry(
                name=name,
                value=entry.get("value"),
                unit=str(entry.get("unit", "")),
                why=" ".join(str(entry.get("why", "")).split()),
                grade=_checked_grade(f"policy.yaml {name}", entry.get("grade")),
                sources=_checked_sources(f"policy.yaml {name}", entry.get("sources"), sources),
                origin=origin,
            )
            for name, (entry, origin) in entries.items()
        }
    )


def _check_names(tables: ClinicalTables) -> None:
    """TableError for a row that names a product or muscle that is in no table."""
    named = [
        *((row.key, row.product, row.muscle) for row in tables.dose_rows),
        *((z.muscle, None, z.muscle) for z in tables.zones),
        *((g.name, None, member) for g in tables.groups.values() for member in g.members),
        *((f"{i.product}/{i.indication}", i.product, None) for i in tables.indications),
        *((f"cap of {c.product}", c.product, None) for c in tables.caps),
    ]
    for where, product, muscle in named:
        if product is not None and product not in tables.products:
            raise TableError(
                f"{where}: the product {product} is in no table.",
                remedy="Add it to products.csv with its source, or correct the name.",
            )
        if muscle is not None and not tables.knows_muscle(muscle):
            raise TableError(
                f"{where}: the muscle {muscle} is in no table.",
                remedy="Add it to muscles.csv or groups.csv with its source, or correct the name.",
            )
        if product is not None and product not in tables.policy.dispensing_step_units:
            raise TableError(
                f"{where}: {product} has no dispensing step.",
                remedy="Add it to dispensing_step_units in policy.yaml.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One fact that no source gave: the table, the row, and what is not known."""

    table: str
    row: str
    what: str


def missing(tables: ClinicalTables) -> tuple[Missing, ...]:
    """What the tables lack, in a fixed order: what a plan refuses or cautions for."""
    found: list[Missing] = []
    for row in tables.dose_rows:
        if not row.has_range:
            found.append(Missing(table="dose_rows", row=row.key, what="dose range: " + row.note))
        elif row.sites is None:
            found.append(Missing(table="dose_rows", row=row.key, what="number of sites"))
    keys = {(r.product, r.indication, r.population, r.jurisdiction) for r in tables.dose_rows}
    for i in tables.indications:
        if (i.product, i.indication, i.population, i.jurisdiction) not in keys:
            name = "/".join((i.product, i.indication, i.population, i.jurisdiction))
            found.append(Missing(table="dose_rows", row=name, what="every per-muscle dose range"))
    for cap in tables.caps:
        if cap.value is None:
            name = f"{cap.product}/{cap.population}/{cap.kind}/{cap.where}"
            found.append(Missing(table="caps", row=name, what=f"{cap.kind} cap ({cap.note})"))
    for muscle in tables.muscles.values():
        if muscle.reference is None:
            found.append(Missing(table="muscles", row=muscle.name, what="reference volume"))
        if not any(z.from_percent is not None for z in tables.zones_of(muscle.name)):
            found.append(Missing(table="endplate_zones", row=muscle.name, what="endplate zone"))
        if muscle.hazard is None:
            found.append(Missing(table="muscles", row=muscle.name, what="hazards"))
        if muscle.uberon is None:
            found.append(Missing(table="muscles", row=muscle.name, what="anatomy codes"))
    return tuple(found)
