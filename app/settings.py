"""Everything a site can set, in one typed place; `docs/settings.md` is the same as a table."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.networks import IPvAnyNetwork
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.destinations import Destination, Webhook
from imaging.limits import DecodeLimits

Scope = Literal["read", "submit", "edit", "confirm", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# RFC 7518 3.1 and RFC 8037: those with a public key. HMAC and `none` cannot be set at all.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ApiKey(BaseModel):
    """A key of a machine or a desk: only its SHA-256 is kept, with what it may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: frozenset[Scope] = frozenset({"read"})
    expires: dt.date | None = None


AE_TITLE = r"^[ -\[\]-~]{1,16}$"
"""PS3.5 table 6.2-1, VR AE: 16 characters, no backslash, no control characters."""


class Peer(BaseModel):
    """A DICOM application that may call, and with a `port` and one address may be called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ae: Annotated[str, Field(pattern=AE_TITLE)]
    address: IPvAnyNetwork = Field(description="An address, or a network such as 10.1.2.0/24.")
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None


class Settings(BaseSettings):
    """A site's settings: environment variables that begin with SONODOSE_, or arguments."""

    model_config = SettingsConfigDict(
        env_prefix="SONODOSE_", frozen=True, extra="forbid", validate_default=True
    )

    data_dir: Path = Field(
        default=Path("sonodose_data"), description="Folder of the database and the stored files."
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL; unset: SQLite in the data folder. "
        "PostgreSQL: postgresql+psycopg://…",
    )
    blob_url: Annotated[str, Field(pattern=r"^s3://[^/?#@]+(/[^?#]*)?$")] | None = Field(
        default=None,
        description="Where the files are instead of the data folder: s3://bucket/prefix; keys and "
        "endpoint from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and their like.",
    )
    blob_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        default=4 << 30, description="Copies of such files that stay on this machine's disk."
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; outside loopback only with access control.",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=8000, description="Port to listen on; 0 takes a free one and prints it."
    )
    auth: Literal["none", "keys", "oidc"] = Field(
        default="none",
        description="Who may ask: none (loopback only), keys, or oidc: tokens of the site's "
        "identity provider for people, and the listed keys for machines.",
    )
    api_keys: tuple[ApiKey, ...] = Field(
        default=(),
        description='JSON list of {"name", "sha256", "scopes", "expires"}; '
        "`sonodose new-key NAME` makes one.",
    )
    oidc_issuer: str | None = Field(
        default=None,
        description="The identity provider: the `iss` of its tokens, https://… (OpenID Connect).",
    )
    oidc_audience: str | None = Field(
        default=None, description="What the `aud` of a token must name: this service."
    )
    oidc_jwks_url: str | None = Field(
        default=None,
        description="Where the provider's keys are; unset: as its discovery document says.",
    )
    oidc_hosts: tuple[str, ...] = Field(
        default=(),
        description="JSON list of the hosts that keys and tokens may be fetched from; "
        "empty: the issuer's own alone.",
    )
    oidc_algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256"),
        description="JSON list of the signatures that are taken; only asymmetric ones can be set.",
    )
    oidc_claims: tuple[str, ...] = Field(
        default=("scope", "scp", "roles"),
        description="JSON list of the claims that say what a person may do; a dot leads into an "
        "object (realm_access.roles).",
    )
    oidc_scopes: dict[str, tuple[Scope, ...]] = Field(
        default={f"sonodose.{scope}": (scope,) for scope in SCOPES},
        description='JSON object: what a value of those claims means here, {"physicians": '
        '["read", "submit", "edit", "confirm"]}.',
    )
    oidc_role_claim: str | None = Field(
        default=None,
        description="The claim that holds a clinician's profession, shown at a confirmation.",
    )
    oidc_leeway_s: Annotated[float, Field(ge=0, le=120)] = Field(
        default=10.0, description="How far the provider's clock may be off."
    )
    oidc_refresh_s: Annotated[float, Field(ge=1)] = Field(
        default=60.0,
        description="An unknown key id makes the keys be fetched again, at most this often.",
    )
    oidc_client_id: str | None = Field(
        default=None,
        description="The viewer's name at the provider; unset: no sign-in page for it.",
    )
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="The viewer's secret, where the provider wants one beside PKCE."
    )
    public_url: Annotated[str, Field(pattern=r"^https?://[^/?#]+$")] | None = Field(
        default=None,
        description="The address that people open, as the proxy has it, for signing in and for "
        "the links in webhooks: https://dose.example.",
    )
    session_hours: Annotated[float, Field(gt=0, le=24)] = Field(
        default=10.0, description="A viewer session ends after so long, whatever happens."
    )
    session_idle_minutes: Annotated[float, Field(gt=0)] = Field(
        default=60.0, description="A viewer session ends when nothing was asked for so long."
    )
    rate_per_s: Annotated[float, Field(gt=0)] = Field(
        default=100.0, description="Requests a second of one client, over time; more: 429."
    )
    rate_burst: Annotated[int, Field(ge=1)] = Field(
        default=2000, description="Requests that one client may make at once."
    )
    failed_sign_ins_per_minute: Annotated[float, Field(gt=0)] = Field(
        default=20.0,
        description="Wrong keys or tokens from one address before it must wait.",
    )
    slow_client_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0,
        description="A client that pauses so long within a request or an answer is cut off.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=("127.0.0.1", "::1"),
        description="JSON list of the proxies whose X-Forwarded-For is believed.",
    )
    audit_syslog: Annotated[str, Field(pattern=r"^(udp|tcp|tls)://[^/?#@]+:[0-9]+$")] | None = (
        Field(
            default=None,
            description="Where DICOM audit messages go: tls://audit.example:6514, tcp:// or "
            "udp://; unset: they are not sent. They name study and patient.",
        )
    )
    audit_syslog_ca: Path | None = Field(
        default=None,
        description="PEM of who vouches for the repository's certificate; unset: the system's.",
    )
    audit_source: Annotated[str, Field(pattern=r"^[!-~]{1,48}$")] = Field(
        default="sonodose", description="This service's name in audit messages."
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="JSON list of origins whose pages may call this service."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=lambda: os.cpu_count() or 1,
        description="Worker processes, one thread each; unset: as many as cores.",
    )
    canary_minutes: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="So often the network is asked for an answer that is known; without it "
        "the service is not ready and makes nothing.",
    )
    log: Literal["text", "json"] = Field(
        default="text",
        description="json: one object a line, a line for each request, without patient data: "
        "UIDs as hashes with the site's key, errors without their words.",
    )
    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#@]+(/[^?#]*)?$")] | None = Field(
        default=None,
        description="Where OpenTelemetry traces go, OTLP over HTTP: http://collector:4318; unset: "
        "none are made. Needs sonodose[telemetry]; OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER "
        "and their like count.",
    )
    executor: Literal["processes", "dask"] = Field(
        default="processes",
        description="Who does the jobs: processes of this machine, or a Dask cluster. With dask "
        "`workers` is how many jobs this service gives to the cluster at once.",
    )
    dask_scheduler: Annotated[str, Field(pattern=r"^(tcp|tls)://[^/?#@]+:[0-9]+$")] | None = Field(
        default=None, description="Address of the Dask scheduler: tcp://scheduler:8786, or tls://."
    )
    dask_resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description='JSON object of the Dask resources that a job needs: {"GPU": 1} takes workers '
        "that were started with `--resources GPU=1`.",
    )
    job_time_limit_s: Annotated[float, Field(gt=0)] = Field(
        default=300.0, description="A job that runs longer is stopped and failed."
    )
    job_memory_bytes: Annotated[int, Field(ge=1 << 30)] = Field(
        default=6 << 30, description="Address space that one worker process may take."
    )
    job_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        default=3, description="How often a job is tried when its worker dies."
    )
    lease_s: Annotated[float, Field(ge=1)] = Field(
        default=30.0, description="A job whose service is silent so long is taken over."
    )
    drain_s: Annotated[float, Field(ge=0)] = Field(
        default=20.0, description="How long a stopping service lets running jobs finish."
    )
    max_queued_jobs: Annotated[int, Field(ge=1)] = Field(
        default=2000, description="Above so many waiting jobs a new one is answered 429."
    )
    min_free_disk_bytes: Annotated[int, Field(ge=0)] = Field(
        default=512 << 20, description="Below so much free disk new files are answered 429."
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=2 << 30, description="Largest upload, all its files together."
    )
    max_file_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=1 << 30, description="Largest single file."
    )
    max_files: Annotated[int, Field(ge=1)] = Field(
        default=500, description="Most files of one upload."
    )
    max_json_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=4 << 20, description="Largest JSON body or `request` part."
    )
    max_frame_pixels: Annotated[int, Field(ge=1)] = Field(
        default=40_000_000, description="Most rows × columns of one frame."
    )
    max_frames: Annotated[int, Field(ge=1)] = Field(
        default=4000, description="Most frames of one file."
    )
    max_decoded_bytes: Annotated[int, Field(ge=1024)] = Field(
        default=4 << 30, description="Most bytes that one file may take when decoded."
    )
    retention_days: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="An analysis untouched for so many days and never carried out is deleted; "
        "unset: kept until somebody deletes it.",
    )
    on_conflict: Literal["keep_first", "refuse"] = Field(
        default="keep_first",
        description="Other bytes under a known SOP Instance UID: keep_first stores them beside "
        "the first with a warning, refuse answers 409.",
    )
    jurisdiction: str = Field(
        default="US", description="Whose labels hold when a request names none."
    )
    table_override: Path | None = Field(
        default=None, description="Folder of a site's own reviewed dose tables."
    )
    uid_root: (
        Annotated[str, Field(pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$", max_length=40)] | None
    ) = Field(
        default=None,
        description="DICOM UID root of the objects that this site makes; unset: UUIDs under 2.25.",
    )
    destinations: tuple[Destination, ...] = Field(
        default=(),
        description="JSON list of where objects may be sent, by STOW-RS or C-STORE; see "
        "[Sending results](sending.md).",
    )
    webhooks: tuple[Webhook, ...] = Field(
        default=(),
        description="JSON list of who is told of events, signed; see "
        "[Sending results](sending.md).",
    )
    delivery_attempts: Annotated[int, Field(ge=1, le=50)] = Field(
        default=12, description="How often a delivery is tried before it is given up."
    )
    delivery_pause_s: Annotated[float, Field(gt=0)] = Field(
        default=5.0,
        description="Pause after the first failed attempt; it doubles with each, up to an hour.",
    )
    study_quiet_s: Annotated[float, Field(gt=0)] = Field(
        default=10.0, description="A study pushed over the network is whole when quiet so long."
    )
    routing_rules: Path | None = Field(
        default=None,
        description="YAML file of the rules that name muscle and side of pushed studies "
        "(docs/routing.md); unset: each waits for a person.",
    )
    dimse_port: Annotated[int, Field(ge=0, le=65_535)] | None = Field(
        default=None, description="Port of the DICOM listener (11112 is usual); unset: none."
    )
    dimse_host: str = Field(
        default="127.0.0.1",
        description="Address of the DICOM listener; outside loopback only with dimse_peers.",
    )
    dimse_ae: Annotated[str, Field(pattern=AE_TITLE)] = Field(
        default="SONODOSE", description="Our AE title; calls for another one are rejected."
    )
    dimse_peers: tuple[Peer, ...] = Field(
        default=(),
        description='JSON list of {"ae", "address", "port"}: who may call, from which address or '
        "network; with a port also where C-MOVE may send and storage commitment reports. Empty: "
        "anybody on loopback.",
    )
    dimse_max_associations: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=300, description="Most DICOM associations at once; one more is rejected."
    )
    dimse_max_pdu_bytes: Annotated[int, Field(ge=4096, le=1 << 27)] = Field(
        default=1 << 20, description="Largest PDU that we take."
    )
    dimse_idle_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0, description="An association that is silent so long is aborted."
    )
    dimse_acse_s: Annotated[float, Field(gt=0)] = Field(
        default=15.0, description="Time for opening and closing an association."
    )
    dimse_reply_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="Time that a called peer has to answer a message."
    )
    dimse_tls_cert: Path | None = Field(
        default=None, description="PEM certificate; with it the listener speaks TLS alone."
    )
    dimse_tls_key: Path | None = Field(default=None, description="PEM key of the certificate.")
    dimse_tls_ca: Path | None = Field(
        default=None, description="PEM authorities: peers must show a certificate of theirs."
    )

    @model_validator(mode="after")
    def _targets_named_apart(self) -> Self:
        names = [each.name for each in (*self.destinations, *self.webhooks)]
        if len(set(names)) < len(names):
            raise ValueError("each destination and webhook has a name of its own")
        return self

    @model_validator(mode="after")
    def _dask_has_an_address(self) -> Self:
        if self.executor == "dask" and self.dask_scheduler is None:
            raise ValueError("executor=dask needs dask_scheduler, such as tcp://scheduler:8786")
        return self

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data_dir / 'sonodose.sqlite'}"

    @property
    def blob_dir(self) -> Path:
        """The folder of the content-addressed files."""
        return self.data_dir / "blobs"

    @property
    def decode_limits(self) -> DecodeLimits:
        """The limits that reading a file keeps to, checked before any decoding."""
        return DecodeLimits(
            max_file_bytes=self.max_file_bytes,
            max_frame_pixels=self.max_frame_pixels,
            max_frames=self.max_frames,
            max_decoded_bytes=self.max_decoded_bytes,
        )

    @property
    def on_loopback(self) -> bool:
        """True if only this machine can reach the service."""
        return self.host in LOOPBACK


def settings_table() -> str:
    """The rows of docs/settings.md: one setting a line with its default and meaning."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "as many as cores" if field.default_factory else _shown(field.default)
        rows.append(f"| `SONODOSE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"
