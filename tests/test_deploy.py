"""The compose file and the chart: rendered, of the right shape, with settings that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from app.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
PLACE = re.compile(r"\{\{ \.(Values|Release)\.([A-Za-z0-9.]+) \}\}")
NAMES = {f"SONODOSE_{name.upper()}" for name in Settings.model_fields}


def rendered() -> list[dict[str, Any]]:
    """The chart's objects for its own values, as Helm renders plain references."""
    values = yaml.safe_load((DEPLOY / "helm/values.yaml").read_text())

    def value(found: re.Match[str]) -> str:
        if found[1] == "Release":
            return "dose"
        place = values
        for part in found[2].split("."):
            place = place[part]
        return str(place)

    text = [PLACE.sub(value, path.read_text()) for path in (DEPLOY / "helm/templates").iterdir()]
    assert "{{" not in "".join(text)
    return [each for part in text for each in yaml.safe_load_all(part)]


def settings_in(text: str) -> set[str]:
    return set(re.findall(r"SONODOSE_[A-Z0-9_]+", text))


def test_every_setting_that_is_named_exists() -> None:
    """No file under deploy/ sets something that the service does not know."""
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    assert {n for path in files for n in settings_in(path.read_text()) if n not in NAMES} == set()


def containers(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in objects:
        if each["kind"] == "Deployment":
            yield from each["spec"]["template"]["spec"]["containers"]


def test_the_chart_renders_to_objects_that_fit_together() -> None:
    """Selectors find their pods, services their ports, and nothing runs as root."""
    objects = rendered()
    deployments = [each for each in objects if each["kind"] == "Deployment"]
    assert {d["metadata"]["labels"]["part"] for d in deployments} == {"api", "scheduler", "worker"}
    for each in deployments:
        pod = each["spec"]["template"]
        assert each["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
    pods = [d["spec"]["template"] for d in deployments]
    for service in (each for each in objects if each["kind"] == "Service"):
        (pod,) = [p for p in pods if p["metadata"]["labels"] == service["spec"]["selector"]]
        ports = {p["name"] for c in pod["spec"]["containers"] for p in c["ports"]}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports
    for container in containers(objects):
        assert container["resources"]["limits"]["memory"]
        for variable in container.get("env", []):
            assert isinstance(variable.get("value", ""), str), variable


def test_the_settings_of_both_make_a_service() -> None:
    """The API's environment is one that the settings accept, with Dask and an object store."""
    (api,) = [c for c in containers(rendered()) if c["name"] == "api"]
    chart = {v["name"]: v.get("value") for v in api["env"]}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for given in (chart, compose["api"]["environment"]):
        plain = {
            name.removeprefix("SONODOSE_").lower(): value
            for name, value in given.items()
            if name.startswith("SONODOSE_") and value and "$" not in value
        }
        settings = Settings(**plain)
        assert settings.executor == "dask"
        assert settings.blob_url == "s3://sonodose/blobs"
    assert set(compose) == {"database", "objects", "scheduler", "worker", "api"}
    assert compose["scheduler"]["networks"] == compose["worker"]["networks"] == ["inside"]
