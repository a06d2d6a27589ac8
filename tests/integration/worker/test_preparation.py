"""What the operator allows reaches the trainer as arguments: its environment is the worker's no more."""

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
    changed = settings.model_copy(update={"http_verifiers": endpoints, "sandbox": "bubblewrap"})
    command = Preparation(changed, artifacts, database, environment).prepare(claim, []).command
    given = [command[i + 1] for i, part in enumerate(command) if part == "--http-verifier"]
    assert given == ["judge=https://u:secret@judge/score", "other=http://o"]
    assert command[command.index("--sandbox") + 1] == "bubblewrap"
