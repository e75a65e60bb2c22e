"""Where results may go: only hosts that stand in the settings are ever contacted.

Secrets are named, not written: by a file or an environment variable, read anew at each sending,
so that a changed one holds at once and none stands in a settings dump.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

ObjectName = Literal["image.dcm", "seg.dcm", "sr.dcm", "sc.dcm", "pr.dcm", "ko.dcm"]
ALL_OBJECTS: tuple[ObjectName, ...] = (
    "image.dcm",
    "seg.dcm",
    "sr.dcm",
    "sc.dcm",
    "pr.dcm",
    "ko.dcm",
)
"""In the order of sending: what is referred to comes before what refers to it."""
THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
AeTitle = Annotated[str, Field(pattern=r"^[ -\[\]-~]{1,16}$")]
"""PS3.5 table 6.2-1, VR AE: 16 characters, no backslash, no control characters."""


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Secret(_Listed):
    """A secret's place: a file's first line, or an environment variable."""

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("name one place of the secret: file or env")
        return self

    def read(self) -> str:
        """The secret. Raises OSError or KeyError where it is not."""
        if self.file is not None:
            return self.file.read_text("utf-8").strip()
        return os.environ[self.env or ""]


def place_of(address: str) -> tuple[str, str] | None:
    """(scheme, host), in lower case, of an http or https address; None for what is none.

    A narrow grammar, so that no two readers of addresses disagree about the host: a name or an
    address in brackets, perhaps a port, nothing before an @, no backslash, no blank. The host is
    compared as it is written: 2130706433, 0x7f.1 and a name with a dot at its end are other hosts.
    """
    found = re.fullmatch(
        r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:[/?#][!-~]*)?", address, re.I
    )
    return None if found is None else (found[1].lower(), found[2].strip("[]").lower())


def in_clear(scheme: str, host: str) -> bool:
    """True for what others on the network could read: no TLS, and not on this machine."""
    return scheme == "http" and host not in THIS_MACHINE


def _plain_address(url: str) -> str:
    if place_of(url) is None:
        raise ValueError("an address is https://, a host, perhaps a port, and a path")
    if "?" in url or "#" in url:
        raise ValueError("no query and no fragment in an address")
    return url.rstrip("/")


Address = Annotated[str, AfterValidator(_plain_address)]


class _Web(_Listed):
    """Somebody who is reached by HTTP; without TLS only on this machine or where allowed."""

    url: Address
    ca_file: Path | None = None
    plain_http: bool = False

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        place = place_of(self.url)
        if place is not None and in_clear(*place) and not self.plain_http:
            raise ValueError("patient data goes by https; plain_http: true allows http")
        return self


class StowDestination(_Web):
    """A PACS that takes objects by DICOMweb; `url` is the root that has /studies below it."""

    kind: Literal["stow"]
    name: Name
    authorization: Secret | None = None
    objects: tuple[ObjectName, ...] = ALL_OBJECTS
    on_confirmation: bool = False


class StoreDestination(_Listed):
    """A PACS that takes objects by C-STORE, with TLS where its certificate can be checked."""

    kind: Literal["c_store"]
    name: Name
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=253)]
    port: Annotated[int, Field(ge=1, le=65_535)]
    called_ae: AeTitle
    calling_ae: AeTitle = "SONODOSE"
    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    objects: tuple[ObjectName, ...] = ALL_OBJECTS
    on_confirmation: bool = False


Destination = Annotated[StowDestination | StoreDestination, Field(discriminator="kind")]


class Webhook(_Web):
    """Who is told of events, signed with a secret; no events named: of all."""

    name: Name
    secret: Secret
    events: tuple[str, ...] = ()

    def hears(self, event: str) -> bool:
        """True if it is to be told of this event."""
        return not self.events or event in self.events
