"""What the operator allows reaches the trainer, and nothing else of the worker's environment does."""

import os

from pydantic import SecretStr

from store.leases import Claim
from worker.preparation import Preparation


def test_endpoints_and_sandbox_are_passed_on(settings, artifacts, database, identity, make_dataset, make_spec):
    spec = make_spec(make_dataset(identity).id).model_dump(mode="json")
    claim = Claim("job_1", 1, spec, identity.team_id, 0, None)
    environment = os.environ | {"ASYM_HTTP_VERIFIERS": "judge=http://j", "ASYM_SANDBOX": "bubblewrap"}
    plain = Preparation(settings, artifacts, database, environment).prepare(claim, [])
    assert not {"--http-verifier", "--sandbox"} & set(plain.command)
    assert not any(name.startswith("ASYM_") for name in plain.environment)
    endpoints = {"judge": SecretStr("https://u:secret@judge/score"), "other": SecretStr("http://o")}
    more = {"outgoing_networks": ["10.0.0.0/8"], "outgoing_secret": SecretStr("signing")}
    changed = settings.model_copy(update={"http_verifiers": endpoints, "sandbox": "bubblewrap", **more})
    launch = Preparation(changed, artifacts, database, environment).prepare(claim, [])
    assert launch.environment["ASYM_HTTP_VERIFIERS"] == "judge=https://u:secret@judge/score,other=http://o"
    assert launch.environment["ASYM_OUTGOING_NETWORKS"] == "10.0.0.0/8"
    assert launch.environment["ASYM_OUTGOING_SECRET"] == "signing"
    # Everyone on the machine may read the arguments of its processes.
    assert not [part for part in launch.command if "secret" in part or "signing" in part]
    assert launch.command[launch.command.index("--sandbox") + 1] == "bubblewrap"


def test_a_sampler_draws_with_what_the_operator_chose(settings, artifacts, database, identity):
    claim = Claim("job_1", 1, {"model": {"id": "builtin/tiny-arith"}}, identity.team_id, 0, None, kind="serve")

    def engine(given):
        command = Preparation(given, artifacts, database, os.environ).prepare(claim, []).command
        assert command[command.index("trainer.serving") + 1] == "builtin/tiny-arith"
        return command[command.index("--engine") + 1]

    assert engine(settings) == "auto"
    assert engine(settings.model_copy(update={"sampler_engine": "vllm"})) == "vllm"
