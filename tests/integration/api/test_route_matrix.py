"""Every route of the OpenAPI document times everybody who may call it: who is let in, who is not, and that nothing
changes for who is not.

RULES is the one table. A route of the document without a line in it fails, and so does a line without a route: whoever
adds a route says here who may use it.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from api.main import OPEN_PATHS
from store import datasets, jobs, keys, members, sweeps
from store.access import SCOPES, Role, Scope
from store.models import Base, Checkpoint
from store.webhooks import hooks
from store.webhooks.events import HookEvent
from trainer.spec.sweep import SweepSpec
from trainer.spec.sweep import members as planned_jobs

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Rule:
    scope: Scope | None
    """None: open to everyone."""
    of: str | None = None
    """What the path names: job, ended_job, checkpoint, dataset, file, key, member, hook; others get 404. None: the
    team's own things, of which another team sees nothing."""
    ok: int = 200
    """The status for whoever may."""
    send: Callable[["World"], dict[str, Any]] = field(default=lambda world: {})
    """The rest of the request, where it takes one."""
    query: str = ""


READ, JOBS, DATA = Scope.READ, Scope.JOBS_WRITE, Scope.DATASETS_WRITE
KEYS, MEMBERS, AUDIT = Scope.KEYS_MANAGE, Scope.MEMBERS_MANAGE, Scope.AUDIT_READ
HOOKS = Scope.WEBHOOKS_MANAGE

NARROW = {"name": "k", "role": "viewer", "scopes": ["read"]}
FILE = {"files": {"file": ("a.jsonl", b'{"prompt": "1+1=", "answer": "2"}\n')}}

RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/healthz"): Rule(None),
    ("GET", "/readyz"): Rule(None),
    # Open to whoever has an identity provider's word; none is set up here (test_sign_in.py).
    ("POST", "/sign-in"): Rule(None, ok=404, send=lambda world: {"json": {"id_token": "x"}}),
    ("POST", "/datasets"): Rule(DATA, ok=201, send=lambda world: FILE),
    ("GET", "/datasets"): Rule(READ),
    ("GET", "/datasets/{dataset_id}"): Rule(READ, "dataset"),
    ("GET", "/datasets/{dataset_id}/rows"): Rule(READ, "dataset"),
    ("GET", "/datasets/{dataset_id}/tokens"): Rule(READ, "dataset", query="?model=builtin/tiny-arith"),
    ("DELETE", "/datasets/{dataset_id}"): Rule(DATA, "dataset", ok=204),
    # Another team's data set is no data set.
    ("POST", "/jobs"): Rule(JOBS, "spec", ok=201, send=lambda world: {"json": world.spec}),
    ("POST", "/jobs/validate"): Rule(READ, "spec", send=lambda world: {"json": world.spec}),
    ("GET", "/jobs"): Rule(READ),
    ("GET", "/jobs/{job_id}"): Rule(READ, "job"),
    ("DELETE", "/jobs/{job_id}"): Rule(JOBS, "ended_job", ok=204),
    ("POST", "/jobs/{job_id}/cancel"): Rule(JOBS, "job"),
    ("POST", "/jobs/{job_id}/pause"): Rule(JOBS, "job"),
    ("POST", "/jobs/{job_id}/resume"): Rule(JOBS, "job"),
    ("POST", "/jobs/{job_id}/clone"): Rule(JOBS, "job", ok=201),
    ("POST", "/jobs/{job_id}/retry"): Rule(JOBS, "ended_job", ok=201),
    ("GET", "/jobs/{job_id}/metrics"): Rule(READ, "job"),
    ("GET", "/jobs/{job_id}/events"): Rule(READ, "job"),
    ("GET", "/jobs/{job_id}/rollouts"): Rule(READ, "job"),
    ("GET", "/jobs/{job_id}/logs"): Rule(READ, "job"),
    ("GET", "/jobs/{job_id}/checkpoints"): Rule(READ, "job"),
    ("GET", "/compare"): Rule(READ, "job", query="?jobs={job_id}"),
    **{
        ("GET", f"/compare/{part}"): Rule(READ, "job", query="?jobs={job_id}")
        for part in ("runs", "clock", "prompts", "export")
    },
    ("POST", "/sweeps"): Rule(JOBS, "spec", ok=201, send=lambda world: {"json": world.plan}),
    ("GET", "/sweeps"): Rule(READ),
    ("GET", "/sweeps/{sweep_id}"): Rule(READ, "sweep"),
    ("POST", "/sweeps/{sweep_id}/cancel"): Rule(JOBS, "sweep"),
    ("POST", "/sweeps/{sweep_id}/pause"): Rule(JOBS, "sweep"),
    ("POST", "/sweeps/{sweep_id}/resume"): Rule(JOBS, "sweep"),
    ("GET", "/queue"): Rule(READ),
    ("GET", "/workers"): Rule(READ),
    ("GET", "/models"): Rule(READ),
    ("GET", "/presets"): Rule(READ),
    ("GET", "/me"): Rule(READ),
    ("POST", "/keys"): Rule(
        KEYS, ok=201, send=lambda world: {"json": {"name": "k", "role": "viewer", "scopes": ["read"]}}
    ),
    ("GET", "/keys"): Rule(KEYS),
    ("DELETE", "/keys/{key_id}"): Rule(KEYS, "key", ok=204),
    ("POST", "/keys/{key_id}/rotate"): Rule(KEYS, "key", ok=201),
    ("GET", "/members"): Rule(READ),
    ("POST", "/members"): Rule(MEMBERS, ok=201, send=lambda world: {"json": {"name": "m"}}),
    ("PATCH", "/members/{member_id}"): Rule(MEMBERS, "member", send=lambda world: {"json": {"name": "n"}}),
    ("DELETE", "/members/{member_id}"): Rule(MEMBERS, "member", ok=204),
    ("GET", "/audit"): Rule(AUDIT),
    ("POST", "/webhooks"): Rule(HOOKS, ok=201, send=lambda world: {"json": {"name": "h", "url": world.receiver}}),
    ("GET", "/webhooks"): Rule(HOOKS),
    ("GET", "/webhooks/{hook_id}"): Rule(HOOKS, "hook"),
    ("PATCH", "/webhooks/{hook_id}"): Rule(HOOKS, "hook", send=lambda world: {"json": {"name": "n"}}),
    ("DELETE", "/webhooks/{hook_id}"): Rule(HOOKS, "hook", ok=204),
    ("POST", "/webhooks/{hook_id}/rotate"): Rule(HOOKS, "hook", ok=201),
    ("POST", "/webhooks/{hook_id}/test"): Rule(HOOKS, "hook", ok=202),
    ("GET", "/webhooks/{hook_id}/deliveries"): Rule(HOOKS, "hook"),
    ("POST", "/webhooks/{hook_id}/deliveries/{delivery_id}/replay"): Rule(HOOKS, "hook", ok=202),
    ("PATCH", "/jobs/{job_id}"): Rule(JOBS, "job", send=lambda world: {"json": {"name": "n"}}),
    ("GET", "/jobs/{job_id}/checkpoints/{step}/download"): Rule(READ, "checkpoint"),
    # The operator's token opens it, and no team's key.
    ("GET", "/metrics"): Rule(None, ok=401),
    ("POST", "/v1/files"): Rule(DATA, send=lambda world: FILE | {"data": {"purpose": "fine-tune"}}),
    ("GET", "/v1/files"): Rule(READ),
    ("GET", "/v1/files/{file_id}"): Rule(READ, "file"),
    ("GET", "/v1/files/{file_id}/content"): Rule(READ, "file"),
    ("DELETE", "/v1/files/{file_id}"): Rule(DATA, "file"),
    ("POST", "/v1/fine_tuning/jobs"): Rule(JOBS, "spec", send=lambda world: {"json": world.openai_job}),
    ("GET", "/v1/fine_tuning/jobs"): Rule(READ),
    ("GET", "/v1/fine_tuning/jobs/{job_id}"): Rule(READ, "job"),
    ("POST", "/v1/fine_tuning/jobs/{job_id}/cancel"): Rule(JOBS, "job"),
    ("POST", "/v1/fine_tuning/jobs/{job_id}/pause"): Rule(JOBS, "job"),
    ("POST", "/v1/fine_tuning/jobs/{job_id}/resume"): Rule(JOBS, "job"),
    ("GET", "/v1/fine_tuning/jobs/{job_id}/events"): Rule(READ, "job"),
    ("GET", "/v1/fine_tuning/jobs/{job_id}/checkpoints"): Rule(READ, "job"),
    ("GET", "/v1/models"): Rule(READ),
    ("GET", "/v1/models/{model_id}"): Rule(READ),
}

REFUSED = ("expired key", "revoked key", "key of a removed member", "mistyped key", "unknown key", "no key")
EVERYONE = ("admin", "member", "viewer", "other team's admin", "narrow key", "streaming stranger", *REFUSED)


class World:
    """One team with one of everything, and all who may knock."""

    receiver = "https://receiver.example/"

    def __init__(self, database, artifacts, make_key, make_dataset, make_spec):
        self._database = database
        self._artifacts = artifacts
        self._make_dataset = make_dataset
        self._make_spec = make_spec
        self.admin = make_key(Role.ADMIN)
        self.identity = self.admin.identity
        team = self.identity.team_id
        self.plain = {
            "admin": self.admin.plain,
            "member": make_key(Role.MEMBER, team).plain,
            "viewer": make_key(Role.VIEWER, team).plain,
            "other team's admin": make_key(Role.ADMIN).plain,
            "unknown key": keys.new_key(),
        }
        self.plain["streaming stranger"] = self.plain["other team's admin"]
        typo = "b" if self.admin.plain[30] == "a" else "a"
        self.plain["mistyped key"] = self.admin.plain[:30] + typo + self.admin.plain[31:]
        with database.transaction() as session:
            for who, column in (("expired key", "expires_at"), ("revoked key", "revoked_at")):
                key, self.plain[who] = keys.create(session, team, who, Role.ADMIN)
                setattr(key, column, key.created_at)
            key, self.plain["key of a removed member"] = keys.create(session, team, "gone", Role.ADMIN)
            members.remove(session, self.identity, key.member_id)
            self._narrow = {
                scope: keys.create(session, team, "narrow", Role.ADMIN, scopes=SCOPES[Role.ADMIN] - {scope})[1]
                for scope in Scope
            }
        self.dataset = make_dataset(self.identity)
        self.spec = make_spec(self.dataset.id).model_dump(mode="json")
        search = {"kind": "grid", "parameters": {"optim.lr": [1e-3]}}
        self.plan = {"name": "rates", "base": self.spec, "search": search}
        grader = {
            "type": "string_check",
            "name": "right",
            "operation": "eq",
            "input": "{{sample.output_text}}",
            "reference": "{{item.answer}}",
        }
        self.openai_job = {
            "model": "builtin/tiny-arith",
            "training_file": self.dataset.id,
            "method": {"type": "reinforcement", "reinforcement": {"grader": grader}},
        }

    def key_of(self, who: str, rule: Rule) -> str | None:
        return self._narrow[rule.scope or READ] if who == "narrow key" else self.plain.get(who)

    def fresh(self, kind: str | None) -> dict[str, str]:
        """An object of the team's that nobody has touched, as what paths call it."""
        with self._database.transaction() as session:
            match kind:
                case "job" | "ended_job":
                    job, _ = jobs.create(session, self.identity, self._make_spec(self.dataset.id))
                    if kind == "ended_job":
                        jobs.request_cancel(session, self.identity, job.id)
                    return {"job_id": job.id}
                case "sweep":
                    plan = SweepSpec.model_validate(self.plan)
                    planned = planned_jobs(plan)
                    specs = [each.job for each in planned]
                    held = datasets.hold(session, self.identity, [self.dataset.id])
                    made, _ = sweeps.create(session, self.identity, plan, planned, specs=specs, held=held)
                    return {"sweep_id": made.id}
                case "checkpoint":
                    job, _ = jobs.create(session, self.identity, self._make_spec(self.dataset.id))
                    path = f"jobs/{job.id}/attempts/1/checkpoints/2"
                    model = self._artifacts.root / path / "model"
                    model.mkdir(parents=True)
                    (model / "config.json").write_text("{}")
                    entries = {"model/config.json": {"bytes": 2, "sha256": ""}}
                    manifest = json.dumps({"format": 1, "step": 2, "files": entries}).encode()
                    (model.parent / "manifest.json").write_bytes(manifest)
                    digest = hashlib.sha256(manifest).hexdigest()
                    session.add(
                        Checkpoint(job_id=job.id, step=2, attempt=1, path=path, manifest_sha256=digest, bytes=2)
                    )
                    return {"job_id": job.id, "step": "2"}
                case "dataset" | "file":
                    return {f"{kind}_id": self._make_dataset(self.identity).id}
                case "key":
                    return {"key_id": keys.create(session, self.identity.team_id, "k", Role.MEMBER)[0].id}
                case "member":
                    return {"member_id": members.create(session, self.identity.team_id, "m", Role.MEMBER).id}
                case "hook":
                    # Of an event that this test does not bring about: nothing is to happen beside it.
                    events = [HookEvent.CHECKPOINT]
                    name, url = "h", self.receiver
                    hook = hooks.create(session, self.identity, name=name, url=url, events=events, tags=[])
                    # Nobody delivers to it meanwhile.
                    hook.busy_until = hook.created_at + timedelta(hours=1)
                    return {"hook_id": hook.id, "delivery_id": str(hooks.test(session, self.identity, hook.id).id)}
        return {"model_id": "builtin/tiny-arith"}

    def rows(self) -> dict[str, list[str]]:
        """Every row there is, but for what a refused request leaves: its entry in the log, and the key's use."""
        all_rows = "SELECT (to_jsonb(t) - '{last_used_at,hash,secret_id}'::text[])::text FROM %s t ORDER BY 1"
        with self._database.transaction() as session:
            return {
                name: list(session.scalars(text(all_rows % name)))
                for name in Base.metadata.tables
                if name != "audit_log"
            }


def expected(who: str, rule: Rule) -> int:
    """The status that the table says."""
    if rule.scope is None:
        return rule.ok
    if who in REFUSED:
        return 401
    if who == "narrow key":
        return 403
    if who in ("other team's admin", "streaming stranger"):
        return 404 if rule.of else rule.ok
    return rule.ok if rule.scope in SCOPES[Role(who)] else 403


@pytest.fixture
def settings(settings):
    """Far more wrong keys than anybody else sends."""
    return settings.model_copy(update={"wrong_keys_per_minute": 10_000, "webhook_hosts": ["receiver.example"]})


@pytest.fixture
def world(database, artifacts, make_key, make_dataset, make_spec, settings):
    made = settings.models_cache / "tiny-arith-0"
    made.mkdir(parents=True)
    Tokenizer(WordLevel({"?": 0}, unk_token="?")).save(str(made / "tokenizer.json"))
    return World(database, artifacts, make_key, make_dataset, make_spec)


def documented(app) -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if method in METHODS
    }


def test_every_route_has_a_rule_and_every_rule_a_route(app):
    routes = documented(app)
    assert routes - RULES.keys() == set(), "say in RULES who may use them"
    assert RULES.keys() - routes == set(), "there are no such routes"
    # /metrics has a token of its own.
    open_ones = {path for (_, path), rule in RULES.items() if rule.scope is None} - {"/metrics"}
    assert {path for _, path in routes} & OPEN_PATHS == open_ones


@pytest.mark.parametrize("who", EVERYONE)
def test_the_matrix(who, anonymous, world):
    wrong = []
    for (method, path), rule in RULES.items():
        ids = world.fresh(rule.of)
        url = path.format(**ids) + rule.query.format(**ids)
        headers = {"Authorization": f"Bearer {key}"} if (key := world.key_of(who, rule)) else {}
        if who == "streaming stranger":
            headers["Accept"] = "text/event-stream"
        before = world.rows()
        response = anonymous.request(method, url, headers=headers, **rule.send(world))
        wanted = expected(who, rule)
        if response.status_code != wanted:
            wrong.append(f"{method} {path}: {response.status_code}, not {wanted}: {response.text[:200]}")
            continue
        if wanted >= 400:
            shape = "application/json" if path.startswith("/v1/") else "application/problem+json"
            assert response.headers["content-type"] == shape, (method, path)
            assert world.rows() == before, f"{method} {path} was refused and changed something"
        if who.endswith(("stranger", "other team's admin")) and wanted < 400:
            mine = [world.dataset.id, world.identity.key_id, world.identity.member_id, world.identity.team_id]
            assert not [id for id in mine if id in response.text], f"{method} {path} shows another team's things"
        if rule.ok < 300 <= wanted and rule.scope is not None:
            assert not any(id in response.text for id in [world.dataset.sha256, world.identity.team_id])
    assert wrong == []


def test_how_large_the_matrix_is():
    # So that it cannot shrink unnoticed.
    assert len(RULES) >= 65
    assert len(EVERYONE) == 12
