"""What all DICOMweb routes share: the form of an answer, attributes by name or tag, addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Path
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from python_multipart.multipart import parse_options_header
from starlette.requests import Request
from starlette.responses import Response

from api.problems import EdgeProblem
from api.related import Part, related
from app.settings import Settings
from imaging.dicom.document import Json, xml_of

HOME = "/dicom-web"
JSON, XML = "application/dicom+json", "application/dicom+xml"
DICOM, OCTETS = "application/dicom", "application/octet-stream"
UID = r"^[0-9]+(\.[0-9]+)*$"
EXAMPLE = "1.2.826.0.1.3680043.8.498.1"
StudyUid = Annotated[str, Path(pattern=UID, max_length=64, examples=[EXAMPLE])]
SeriesUid = Annotated[str, Path(pattern=UID, max_length=64, examples=[EXAMPLE])]
InstanceUid = Annotated[str, Path(pattern=UID, max_length=64, examples=[EXAMPLE])]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entry of an Accept header; `multipart` ones are named by the type of their parts."""

    media_type: str
    multipart: bool = False
    weight: float = 1.0
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """True for `*/*`, alone or as the type of parts."""
        return self.media_type in ("*/*", "*")

    @property
    def transfer_syntax(self) -> str | None:
        """The transfer syntax asked for; `*` stands for the stored one."""
        return self.options.get("transfer-syntax")


def accepted(request: Request) -> list[Wanted]:
    """What the client takes, best first; `*/*` where it says nothing.

    The query parameter `accept` speaks where a page cannot set headers (PS3.18 8.3.3.1).
    """
    said = request.query_params.get("accept") or ",".join(request.headers.getlist("accept"))
    found = [wanted for part in _split(said) if (wanted := _wanted(part)) is not None]
    return sorted(found, key=lambda w: -w.weight) or [Wanted("*/*")]


def _split(header: str) -> Iterator[str]:
    """The entries of a header, a comma within quotes aside."""
    part, quoted = "", False
    for c in header:
        quoted ^= c == '"'
        if c == "," and not quoted:
            yield part
            part = ""
        else:
            part += c
    yield part


def _wanted(text: str) -> Wanted | None:
    kind, raw = parse_options_header(text.strip())
    if not kind:
        return None
    options = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in raw.items()}
    try:
        weight = float(options.get("q", "1"))
    except ValueError:
        weight = 0.0
    if weight <= 0:
        return None
    name = kind.decode("latin-1").lower()
    if name in ("multipart/related", "multipart/*"):
        return Wanted(options.get("type", "*/*").lower(), True, weight, options)
    return Wanted(name, False, weight, options)


def not_acceptable(*offered: str) -> EdgeProblem:
    """The refusal of an Accept that asks for nothing that is made here."""
    return EdgeProblem(
        "not_acceptable",
        "The answer is not made in the form that Accept asks for.",
        remedy=f"Ask for {' or '.join(offered)}, or for */*.",
    )


def documents(
    request: Request,
    found: Sequence[Json],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Data sets as a JSON array, or as parts of XML where only that is taken."""
    for wanted in accepted(request):
        if wanted.anything or wanted.media_type in (JSON, "application/json", "application/*"):
            return json_response(found, status=status, headers=headers)
        if wanted.media_type == XML:
            answer = related([Part(media_type=XML, body=xml_of(each)) for each in found], kind=XML)
            answer.headers.update(dict(headers or {}))
            answer.status_code = status
            return answer
    raise not_acceptable(JSON, f'multipart/related; type="{XML}"')


def json_response(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The DICOM JSON model as an answer."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode(), status, dict(headers or {}), JSON)


def attribute(name: str) -> str | None:
    """The keyword of an attribute given by its keyword or its tag; None for what is neither."""
    if len(name) == 8:
        try:
            return keyword_for_tag(int(name, 16)) or None
        except ValueError:
            pass
    return name if tag_for_keyword(name) is not None else None


def tag_of(keyword: str) -> str:
    """The tag of a keyword as the JSON model writes it."""
    tag = tag_for_keyword(keyword)
    assert tag is not None  # noqa: S101 -- only the standard's own keywords come here
    return f"{tag:08X}"


def value(vr: str, *values: Any) -> Json:
    """An entry of the JSON model; without values it is empty."""
    held = [v for v in values if v not in (None, "")]
    return {"vr": vr, "Value": held} if held else {"vr": vr}


def person(name: str | None) -> Json:
    """A PN entry of a name with up to three groups (PS3.18 F.2.2)."""
    if not name:
        return {"vr": "PN"}
    groups = dict(zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False))
    return {"vr": "PN", "Value": [{key: text for key, text in groups.items() if text}]}


def address(request: Request, settings: Settings, *steps: str) -> str:
    """The absolute address of a stored resource, as the client can reach it."""
    base = settings.public_url or f"{request.url.scheme}://{_host(request)}"
    return "/".join([f"{base}{HOME}", *steps])


def _host(request: Request) -> str:
    """The host and port of the request; some clients leave the port out of their Host header."""
    ip, port = request.scope.get("server") or ("", None)
    if request.url.port is None and request.url.hostname == ip and port not in (None, 80, 443):
        return f"{request.url.netloc}:{port}"
    return request.url.netloc


def home_of(study: str, series: str | None = None, instance: str | None = None) -> tuple[str, ...]:
    """The steps of an address below HOME."""
    steps = ["studies", study]
    steps += [] if series is None else ["series", series]
    steps += [] if instance is None else ["instances", instance]
    return tuple(steps)
