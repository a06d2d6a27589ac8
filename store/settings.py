"""The platform's settings: the one module that reads the environment."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from store.errors import SettingsError
from store.oidc_issuer import check_issuer
from store.policy import DEFAULT, Limits, Policy
from store.webhooks.targets import parse_hosts
from trainer.spec.job import EngineName
from trainer.spec.operator import parse_http_verifiers, parse_networks, split_http_verifiers

GIB = 1024**3
_PLAIN = (
    "database_url", "broker_url", "sandbox", "lease_seconds", "sweep_seconds", "tidy_seconds", "drain_seconds",
    "spool_bytes", "silence_seconds", "max_upload_bytes", "metrics_token",
    "team_running_gpus", "team_queued_jobs", "team_gpu_hours", "team_disk_bytes", "half_life_seconds",
    "reserve_after_seconds",
    "outgoing_secret", "secret", "key_requests_per_second", "key_burst", "address_requests_per_second", "address_burst",
    "wrong_keys_per_minute", "request_seconds", "watchers_per_key", "audit_days",
    "oidc_issuer", "oidc_client_id", "oidc_claim", "oidc_session_hours",
    "worker_metrics_port", "worker_metrics_host", "log_format",
    "sampler_idle_seconds", "sampler_wait_seconds", "sampler_request_seconds", "team_sampler_requests",
    "sampler_engine",
)  # fmt: skip
"""The settings that are read as they are, each from ASYM_ and its name."""
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
TeamLimit = Annotated[int, Field(ge=0)] | None


class Settings(BaseModel):
    """Every setting, checked. `Settings.from_environment()` is how a process gets them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path
    """State, credentials, embedded servers, made models."""
    database_url: SecretStr | None = None
    """Postgres of your own: `postgresql://USER:PASSWORD@HOST/DATABASE`; without it `asym up` starts one."""
    broker_url: SecretStr | None = None
    """Redis or Valkey of your own: `redis://:PASSWORD@HOST:6379/0`; without it `asym up` starts a Valkey."""
    artifacts: Path
    """Folder of data sets and checkpoints, the same one for the API and every worker."""
    models_dir: Path | None = None
    """The only folder from which `path/NAME` models load."""
    hf_allowlist: list[str] = []
    """`ORG/NAME` of each model that `hf/...` may name."""
    http_verifiers: dict[str, SecretStr] = {}
    """Name -> URL of each endpoint that `reward.kind: http:NAME` may name."""
    outgoing_networks: list[str] = []
    """Beyond the public ones, where the names of such endpoints, and of webhooks, may lead: `10.0.0.0/8`."""
    webhook_hosts: list[str] = []
    """Where webhooks may go: `example.com` and all below it, an address that is written out, `*`. None: nowhere."""
    outgoing_secret: SecretStr | None = None
    """What calls to such an endpoint are signed with."""
    sandbox: Literal["bubblewrap"] | None = None
    """What confines the code of `reward.kind: python`; without one such jobs are refused."""
    lease_seconds: Seconds = 15.0
    """How long a worker may be silent before its jobs are taken away."""
    sweep_seconds: Seconds = 5.0
    """How often lost jobs are looked for."""
    tidy_seconds: Seconds = 30.0
    """How often a worker looks for ended and deleted jobs whose files can go."""
    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1800.0
    """How long the trainers of a worker that leaves may take to finish their step and write a checkpoint."""
    spool_bytes: Annotated[int, Field(ge=0)] = GIB
    """How much of what a trainer says may wait on the worker's disk while the database is away."""
    silence_seconds: Seconds = 900.0
    """After how long without a word of its trainer a job's events say so."""
    max_upload_bytes: Annotated[int, Field(gt=0)] = 2 * GIB
    """The largest data set that is taken."""
    metrics_token: SecretStr | None = None
    """What Prometheus sends as bearer token to GET /metrics; without one, only this machine may ask."""
    worker_metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Where a worker tells Prometheus of itself; without one, nowhere."""
    worker_metrics_host: str = "127.0.0.1"
    log_format: Literal["text", "json"] = "text"
    """How the API and workers write their logs (store.logs)."""
    traced: bool = False
    """Whether OTEL_EXPORTER_OTLP_ENDPOINT, or the one for traces alone, says whom to tell of requests and attempts."""
    team_running_gpus: TeamLimit = None
    """GPUs of a team's running jobs together, where it has no limit of its own (`asym teams limits`); unlimited if
    unset."""
    team_queued_jobs: TeamLimit = None
    """Jobs of a team that wait, likewise."""
    team_gpu_hours: TeamLimit = None
    """GPU-hours of a team in a calendar month (UTC), likewise."""
    team_disk_bytes: TeamLimit = None
    """Bytes of a team's data sets and checkpoints, likewise."""
    secret: SecretStr | None = None
    """What API keys are hashed with (store.secret); without it, a file in the home, which the first start makes."""
    key_requests_per_second: Seconds = 500.0
    """How fast requests of one key may come, in the long run."""
    key_burst: Annotated[int, Field(ge=1)] = 2000
    """How many of one key at once, after a rest."""
    address_requests_per_second: Seconds = 1000.0
    """How fast requests from one address may come, in the long run."""
    address_burst: Annotated[int, Field(ge=1)] = 4000
    """How many from one address at once, after a rest."""
    wrong_keys_per_minute: Annotated[int, Field(ge=1)] = 60
    """Unknown keys from one address; after them it waits, whatever it sends."""
    request_seconds: Seconds = 30.0
    """After how long a request that is no upload, download or stream is answered 504."""
    watchers_per_key: Annotated[int, Field(ge=1)] = 200
    """Event streams that one key may hold open at an API process."""
    oidc_issuer: str | None = None
    """The identity provider whose ID tokens POST /sign-in takes; goes together with the client's id."""
    oidc_client_id: str | None = None
    """The client that those tokens are issued to."""
    oidc_claim: Annotated[str, Field(min_length=1)] = "email"
    """What of an ID token is a member's login."""
    oidc_session_hours: Annotated[float, Field(gt=0, le=24 * 366, allow_inf_nan=False)] = 12.0
    """How long the key lasts that one gets by signing in."""
    audit_days: Annotated[int, Field(ge=0, le=100_000)] = 400
    """After how long an entry of the audit log is deleted; 0: never."""
    sampler_engine: EngineName = "auto"
    """What this machine's samplers draw with; auto: vLLM on a GPU where it is installed, else transformers (hf)."""
    sampler_idle_seconds: Seconds = 300.0
    """After how long without a request a model that was loaded to be sampled from is let go."""
    sampler_wait_seconds: Seconds = 120.0
    """How long a request to sample waits for a worker and for the model to be loaded; then it is answered 503."""
    sampler_request_seconds: Seconds = 600.0
    """How long such a request may take in all."""
    team_sampler_requests: Annotated[int, Field(ge=1)] = 64
    """How many of a team's may wait or be answered at once; one more is answered 429."""
    half_life_seconds: Seconds = DEFAULT.half_life_seconds
    """After so long, use counts half in a team's fair share."""
    reserve_after_seconds: Seconds = DEFAULT.reserve_after_seconds
    """How long a job of several GPUs waits before a worker is kept free for it."""

    @model_validator(mode="after")
    def _an_issuer_has_a_client(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_client_id is None):
            raise ValueError("ASYM_OIDC_ISSUER and ASYM_OIDC_CLIENT_ID go together")
        if self.oidc_issuer is not None:
            check_issuer(self.oidc_issuer)
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read ASYM_* from the environment. SettingsError names the variable that is wrong."""
        env = os.environ if environment is None else environment
        home = Path(env.get("ASYM_HOME") or "~/.asym").expanduser().absolute()
        artifacts = env.get("ASYM_ARTIFACTS") or str(home / "artifacts")
        if "://" in artifacts:
            raise SettingsError(
                f"ASYM_ARTIFACTS={artifacts}: artifacts are kept in a folder that the API and every worker can reach; "
                "object stores such as s3:// are not supported yet. Set it to a path."
            )
        given: dict[str, object] = {
            "home": home,
            "artifacts": Path(artifacts).expanduser().absolute(),
            "hf_allowlist": [name for part in env.get("ASYM_HF_ALLOWLIST", "").split(",") if (name := part.strip())],
        }
        given["traced"] = any(env.get(f"OTEL_EXPORTER_OTLP_{what}ENDPOINT") for what in ("", "TRACES_"))
        if models_dir := env.get("ASYM_MODELS_DIR"):
            given["models_dir"] = Path(models_dir).expanduser().absolute()
        try:
            given["http_verifiers"] = parse_http_verifiers(split_http_verifiers(env.get("ASYM_HTTP_VERIFIERS", "")))
        except ValueError as error:
            raise SettingsError(f"ASYM_HTTP_VERIFIERS: {error}") from error
        try:
            given["outgoing_networks"] = [str(net) for net in parse_networks(env.get("ASYM_OUTGOING_NETWORKS", ""))]
        except ValueError as error:
            raise SettingsError(f"ASYM_OUTGOING_NETWORKS: {error}") from error
        try:
            given["webhook_hosts"] = parse_hosts(env.get("ASYM_WEBHOOK_HOSTS", ""))
        except ValueError as error:
            raise SettingsError(f"ASYM_WEBHOOK_HOSTS: {error}") from error
        for field in _PLAIN:
            if value := env.get(f"ASYM_{field.upper()}"):
                given[field] = value
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError("; ".join(_said(each) for each in error.errors())) from error

    def require_database_url(self) -> str:
        """The database's address. SettingsError when there is none."""
        return _required(self.database_url, "ASYM_DATABASE_URL", "postgresql://user:password@host/database")

    def require_broker_url(self) -> str:
        """The broker's address. SettingsError when there is none."""
        return _required(self.broker_url, "ASYM_BROKER_URL", "redis://:password@host:6379/0")

    @property
    def oidc_session(self) -> timedelta:
        """How long the key lasts that one gets by signing in."""
        return timedelta(hours=self.oidc_session_hours)

    @property
    def policy(self) -> Policy:
        """The rules of the queue."""
        limits = Limits(self.team_running_gpus, self.team_queued_jobs, self.team_gpu_hours, self.team_disk_bytes)
        return Policy(limits, self.half_life_seconds, self.reserve_after_seconds)

    @property
    def models_cache(self) -> Path:
        """Where the builtin models are kept once made."""
        return self.home / "models-cache"

    @property
    def spool_folder(self) -> Path:
        """Where a worker keeps, without a name, what the database cannot take yet."""
        return self.home / "spool"

    @property
    def secret_file(self) -> Path:
        """The server's secret where ASYM_SECRET is not set (mode 0600)."""
        return self.home / "secret"

    @property
    def credentials_file(self) -> Path:
        """The first admin key, for the command line and the dashboard on this machine (mode 0600)."""
        return self.home / "credentials.json"


def _required(url: SecretStr | None, variable: str, example: str) -> str:
    if url is None or not url.get_secret_value():
        raise SettingsError(f"{variable} is not set. Set it (e.g. {example}), or run `asym up`, which starts servers.")
    return url.get_secret_value()


def _said(error: Mapping[str, Any]) -> str:
    """What is wrong with one setting, or with several together."""
    return f"ASYM_{str(error['loc'][0]).upper()}: {error['msg']}" if error["loc"] else str(error["msg"])
