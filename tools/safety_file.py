"""The parts of the safety file that follow from the code: `make safety` writes them.

docs/safety/conformance.md  the DICOM conformance statement, from the tables that the code uses
docs/safety/sbom.cdx.json   the software that is installed with sonodose, as CycloneDX
docs/safety/soup.md         the same for reading: software of unknown provenance, with licences
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from fastapi.routing import iter_route_contexts
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydicom.uid import UID

from api import dimse, dimse_query
from api.main import create_app
from app.delivery.audit_syslog import EVENTS, LOGIN, LOOK, QUERY, RESTRICTED
from app.services import open_services
from app.settings import Settings
from imaging.dicom import capture, deidentify, key_objects, seg, sr, state
from imaging.dicom.header import RETIRED_US, SECONDARY_CAPTURE_CLASSES, ULTRASOUND_CLASSES
from imaging.dicom.instance import IMPLEMENTATION_NAME, IMPLEMENTATION_UID

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "safety"
HEAD = (
    "<!-- Made by tools/safety_file.py (make safety): change the code or that file, not this. -->\n"
)

# What each library does here and what happens if it fails, for those that stand in the way of a
# dose; all others serve them. IEC 62304 5.3.3 and 5.3.4 ask for the function of each.
ROLES = {
    "onnxruntime": "runs the network; its answer is compared with PyTorch's by test",
    "numpy": "arrays, every sum and product of pixels",
    "scipy": "distances and shapes of masks",
    "opencv-python-headless": "outlines, pictures, video decoding; decodes in a process of its own",
    "pydicom": "reads and writes DICOM; reads in a process of its own",
    "highdicom": "writes reports and states; judged by dciodvfy and dcmtk in the tests",
    "pillow": "reads plain pictures, JPEG; in a process of its own",
    "python-gdcm": "decodes JPEG and JPEG 2000; in a process of its own",
    "pylibjpeg-openjpeg": "decodes HTJ2K; in a process of its own",
    "pylibjpeg-rle": "decodes RLE; in a process of its own",
    "pyjpegls": "decodes JPEG-LS; in a process of its own",
    "pynetdicom": "DIMSE: associations, store, query, retrieve",
    "fastapi": "HTTP routes and their checks",
    "starlette": "HTTP",
    "uvicorn": "HTTP server",
    "pydantic": "checks every request and setting",
    "sqlalchemy": "the store: leases and the audit stand on its transactions",
    "alembic": "moves the store to a newer shape",
    "reportlab": "writes the plan as PDF",
    "pyjwt": "checks tokens of the identity provider",
    "cryptography": "signatures and TLS",
    "httpx": "asks the identity provider, sends results",
}


def main() -> int:
    """Writes all of them; the exit code is 0."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in made().items():
        (FOLDER / name).write_text(text, "utf-8")
    return 0


def made() -> dict[str, str]:
    """Every generated file by its name."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    parts = sorted(shipped(asked, set()), key=lambda d: canonicalize_name(d.name))
    return {
        "conformance.md": conformance(),
        "sbom.cdx.json": sbom(parts),
        "soup.md": soup(parts),
    }


def shipped(asked: Iterable[str], seen: set[str]) -> Iterator[Distribution]:
    """What these requirements bring, and what that brings, each once."""
    for line in asked:
        wanted = Requirement(line)
        # Extras of others are looked at where somebody asks for them, below.
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            yield from _with(wanted, seen)


def _with(wanted: Requirement, seen: set[str]) -> Iterator[Distribution]:
    found = distribution(wanted.name)
    needs = found.requires or []
    if canonicalize_name(wanted.name) not in seen:
        seen.add(canonicalize_name(wanted.name))
        yield found
        yield from shipped(needs, seen)
    for extra in wanted.extras:
        for more in map(Requirement, needs):
            if more.marker is not None and more.marker.evaluate({"extra": extra}):
                yield from _with(more, seen)


def licence(part: Distribution) -> str:
    """The licence that a distribution states: SPDX expression, classifier or its own words."""
    told = part.metadata
    if told.get("License-Expression"):
        return str(told["License-Expression"])
    classes = [
        value.rsplit("::", 1)[1].strip()
        for value in told.get_all("Classifier") or []
        if value.startswith("License ::") and not value.endswith("OSI Approved")
    ]
    words = str(told.get("License") or "").strip().splitlines()
    return " AND ".join(classes) or (words[0][:60] if words else "not stated")


def sbom(parts: Iterable[Distribution]) -> str:
    """CycloneDX 1.6, the same for the same environment: no time and no random number in it."""
    bom, licences = Bom(), LicenseFactory()
    bom.metadata.component = Component(
        name="sonodose",
        version=distribution("sonodose").version,
        type=ComponentType.APPLICATION,
        bom_ref="sonodose",
    )
    for part in parts:
        name = canonicalize_name(part.name)
        component = Component(
            name=name,
            version=part.version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{name}=={part.version}",
            purl=PackageURL("pypi", name=name, version=part.version),
            description=ROLES.get(name),
            licenses=[licences.make_from_string(licence(part))],
        )
        bom.components.add(component)
        bom.register_dependency(bom.metadata.component, [component])
    told = json.loads(JsonV1Dot6(bom).output_as_string())
    told.pop("serialNumber", None)
    told["metadata"].pop("timestamp", None)
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def soup(parts: Iterable[Distribution]) -> str:
    """The list as a table: name, version, licence, what for."""
    rows = [
        f"| {part.name} | {part.version} | {licence(part)} | "
        f"{ROLES.get(canonicalize_name(part.name), 'serves another of this list')} |"
        for part in parts
    ]
    return (
        f"{HEAD}\n# Software of unknown provenance\n\n"
        "What is installed with sonodose (IEC 62304 8.1.2), without the extras for training, tests "
        "and PostgreSQL. The versions are pinned in `constraints.txt`; the same list for machines "
        "is [sbom.cdx.json](sbom.cdx.json).\n\n"
        "| name | version | licence | what for |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def conformance() -> str:
    """The DICOM conformance statement, in the order of PS3.2."""
    return (
        "\n\n".join(
            [
                f"{HEAD}\n# DICOM conformance statement",
                "sonodose takes ultrasound images, measures a muscle in them and gives the plan of "
                "an injection back as DICOM objects in the study of the images. It is research "
                "and decision support, not a cleared medical device.",
                _table(
                    "Implementation",
                    ("what", "value"),
                    [
                        ("Implementation Class UID (0002,0012)", f"`{IMPLEMENTATION_UID}`"),
                        ("Implementation Version Name (0002,0013)", f"`{IMPLEMENTATION_NAME}`"),
                        ("AE title", f"by setting, default `{_default('dimse_ae')}`"),
                        ("Port", f"by setting, default {_default('dimse_port')}"),
                    ],
                ),
                _table(
                    "Images that are analysed",
                    ("SOP class", "UID", "remark"),
                    [
                        *(
                            (_name(uid), uid, "retired" if uid in RETIRED_US else "")
                            for uid in sorted(ULTRASOUND_CLASSES)
                        ),
                        *(
                            (_name(uid), uid, "with Modality US alone")
                            for uid in sorted(SECONDARY_CAPTURE_CLASSES)
                        ),
                    ],
                ),
                _table(
                    "Objects that are made",
                    ("SOP class", "UID"),
                    [
                        (_name(uid), uid)
                        for uid in (
                            seg.SEGMENTATION_STORAGE,
                            sr.COMPREHENSIVE_SR,
                            state.GRAYSCALE_STATE,
                            state.COLOUR_STATE,
                            capture.SECONDARY_CAPTURE,
                            capture.MULTI_FRAME_COLOUR,
                            key_objects.KEY_OBJECT_SELECTION,
                        )
                    ],
                ),
                "Every other storage SOP class of PS3.6 table A-1 is stored and given back, and is "
                f"not analysed: {len(dimse.STORAGE_CLASSES)} classes in all.",
                _table(
                    "Transfer syntaxes, in our order of choice",
                    ("name", "UID"),
                    [(_name(uid), uid) for uid in dimse.SYNTAXES],
                ),
                "Video is decoded by OpenCV, all else by pydicom's decoders; an image in a syntax "
                "that nothing here decodes is refused by name.",
                _table(
                    "DIMSE services",
                    ("SOP class", "UID", "role"),
                    [
                        ("Verification", "1.2.840.10008.1.1", "SCP"),
                        (
                            "Storage, all of the classes above",
                            "",
                            "SCP; SCU to listed destinations",
                        ),
                        *((_name(str(uid)), str(uid), "SCP") for uid in dimse_query.MODELS),
                    ],
                ),
                "Callers are listed by AE title and address; outside loopback none is taken that "
                "is not. TLS by setting (BCP 195).",
                _table("DICOMweb (PS3.18)", ("method", "path"), list(_web()) or [("", "none yet")]),
                _table(
                    "De-identification (PS3.15 annex E)",
                    ("code", "profile or option"),
                    [
                        *deidentify.METHODS,
                        (*deidentify.SHIFTED[:1], f"{deidentify.SHIFTED[1]}, by request"),
                    ],
                ),
                f"Of table E.1-1 {len(deidentify.actions())} attributes are known; beyond it all "
                "that is not on the list of what is safe stays behind: "
                + ", ".join(
                    f"`{name}`"
                    for name in sorted(deidentify.NUMBERS | set(deidentify.WORDS) | deidentify.UIDS)
                )
                + ".",
                _table(
                    "Audit messages (PS3.15 A.5) over syslog (RFC 5424)",
                    ("entry of the audit", "event", "action", "type"),
                    [
                        (
                            f"`{name}*`"
                            if name.endswith(".")
                            else f"`{name}`"
                            if "." in name
                            else name,
                            f"{e.code} {e.name}",
                            e.action,
                            f"{e.type_code} {e.type_name}" if e.type_code else "",
                        )
                        for name, e in (
                            *EVENTS.items(),
                            ("a look at a study", LOOK),
                            ("a list", QUERY),
                            ("a refused caller", LOGIN),
                            ("a caller without the scope", RESTRICTED),
                        )
                    ],
                ),
                "Character sets: those that pydicom reads (PS3.3 C.12.1.1.2) come in; objects of "
                "ours keep that of their source where every text fits, else UTF-8 (ISO_IR 192).",
            ]
        )
        + "\n"
    )


def _web() -> Iterator[tuple[str, str]]:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        services = open_services(Settings(data_dir=Path(folder)))
        app = create_app(services)
        for context in iter_route_contexts(app.routes):
            path = str(context.path)
            if path.startswith("/dicom-web"):
                for method in sorted(context.methods or ()):
                    yield method, f"`{path}`"
        services.store.close()


def _default(name: str) -> object:
    field = Settings.model_fields.get(name)
    return "unset" if field is None or field.default is None else field.default


def _name(uid: str) -> str:
    return UID(uid).name


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)]
    return f"## {title}\n\n" + "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
