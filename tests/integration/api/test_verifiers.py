"""Which verifiers a job and a row may name: the platform's own, and what the operator has configured."""

import json
import subprocess
import sys

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.main import create_app

CODE = "def score(response, answer, metadata):\n    return 1.0\n"


@pytest.fixture
def spec(member, make_dataset, make_spec):
    return make_spec(make_dataset(member.key.identity).id).model_dump(mode="json", exclude_unset=True)


@pytest.fixture
def ask(member, settings, spec):
    """ask(reward, settings_changed, **sections) -> (status, errors) of POST /jobs/validate and POST /jobs alike."""

    def send(reward, changed=None, **sections):
        body = spec | {"reward": reward, "algorithm": {"preset": "grpo"}} | sections
        headers = {"Authorization": f"Bearer {member.key.plain}"}
        with TestClient(create_app(settings.model_copy(update=changed or {})), headers=headers) as client:
            answers = [client.post(path, json=body) for path in ("/jobs/validate", "/jobs")]
        assert answers[0].status_code // 100 == answers[1].status_code // 100
        return answers[1].status_code, answers[1].json().get("errors")

    return send


def test_an_endpoint_must_be_the_operators(ask):
    judge = {"kind": "http:judge"}
    named = {"http_verifiers": {"grader": SecretStr("https://u:secret@grader/score"), "other": SecretStr("http://o")}}
    status, errors = ask(judge, named)
    assert status == 422
    message = "no http verifier 'judge' is configured on this platform; there are: grader, other"
    assert errors == [{"loc": ["body", "reward", "kind"], "msg": message}]
    assert ask(judge)[1][0]["msg"].endswith("there are: none")
    assert ask(judge, {"http_verifiers": {"judge": SecretStr("http://judge")}})[0] == 201


def test_the_users_code_needs_the_operators_sandbox(ask):
    python = {"kind": "python", "options": {"code": CODE}}
    status, errors = ask(python)
    assert status == 422
    assert errors[0]["loc"] == ["body", "reward", "kind"]
    assert "needs a sandbox, and this platform has none configured" in errors[0]["msg"]
    assert ask(python, {"sandbox": "bubblewrap"})[0] == 201


@pytest.mark.parametrize(
    ("reward", "loc", "says"),
    [
        ({"kind": "numeric", "options": {"tolerance": -1}}, ["reward", "options", "tolerance"], "greater than"),
        ({"kind": "numeric", "options": {"tolerence": 1}}, ["reward", "options", "tolerence"], "unknown key"),
        ({"kind": "regex", "options": {"pattern": "(?=a)"}}, ["reward", "options", "pattern"], "lookaround"),
        ({"kind": "python", "options": {}}, ["reward", "options", "code"], "is missing"),
        (
            {"kind": "math", "bonus": [{"kind": "format", "weight": 1, "pattern": "("}]},
            ["reward", "bonus", 0, "pattern"],
            "missing )",
        ),
        ({"kind": "math", "bonus": [{"kind": "length", "weight": 1, "start": 4}]}, [], "reward.bonus.0.start (4)"),
    ],
)
def test_a_wrong_option_is_named(ask, reward, loc, says):
    status, errors = ask(reward)
    assert status == 422
    [error] = errors
    assert error["loc"] == ["body", *loc]
    assert says in error["msg"]


def test_rewards_between_0_and_1_need_a_threshold_for_asymgrpo(ask):
    status, errors = ask({"kind": "reasoning_gym:countdown"}, algorithm={"preset": "asymgrpo"})
    assert status == 422
    assert "algorithm.success_threshold must be set" in errors[0]["msg"]
    threshold = {"preset": "asymgrpo", "success_threshold": 0.9}
    assert ask({"kind": "reasoning_gym:countdown"}, algorithm=threshold)[0] == 201


def test_a_rows_verifier_is_checked_on_upload(member):
    rows = [
        {"prompt": "1+1=", "answer": "2", "kind": "numeric", "options": {"tolerance": 0.5}, "metadata": {"n": 1}},
        {"prompt": "1+1=", "answer": "2", "kind": "reasoning_gym:countdown"},
        {"prompt": "1+1=", "answer": "2", "kind": "numeric", "options": {"tolerance": -1}},
        {"prompt": "1+1=", "answer": "2", "kind": "python", "options": {"code": CODE}},
        {"prompt": "1+1=", "answer": "2", "kind": "http:judge"},
        {"prompt": "1+1=", "answer": "(?=2)", "kind": "regex"},
        {"prompt": "1+1=", "answer": "2" * 200_000},
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    response = member.post("/datasets", files={"file": ("rows.jsonl", data)})
    assert response.status_code == 422
    named = [(error["line"], error["field"]) for error in response.json()["errors"]]
    assert named == [(3, "options"), (4, "kind"), (5, "kind"), (6, "answer"), (7, "answer")]
    good = b"".join(line + b"\n" for line in data.splitlines()[:2])
    assert member.post("/datasets", files={"file": ("rows.jsonl", good)}).status_code == 201


def test_the_api_imports_no_verifier():
    code = (
        "import sys, api.main, api.jobs.admission; from trainer.spec import JobSpec; "
        "spec = {'name': 'x', 'model': {'id': 'builtin/tiny-arith'}, 'data': {'train': 'd'}, "
        "'algorithm': {'preset': 'grpo'}}; "
        "[JobSpec.model_validate({**spec, 'reward': reward}) for reward in ("
        "{'kind': 'reasoning_gym:countdown'}, {'kind': 'math'}, {'kind': 'plugin:x'}, {'kind': 'http:x'}, "
        "{'kind': 'regex', 'options': {'pattern': 'a'}})]; "
        "print(*{'torch', 'sympy', 'math_verify', 'reasoning_gym', 'trainer.rewards'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
