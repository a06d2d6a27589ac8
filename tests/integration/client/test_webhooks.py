"""Webhooks through the SDK and the `asym webhooks` command, against the real API and a real receiver."""

import json

import pytest

from client.cli import main
from tests.integration.api.receiver import receiving


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"webhook_hosts": ["127.0.0.1"], "outgoing_networks": ["127.0.0.1/32"]})


@pytest.fixture
def run(api_url, key, asym, monkeypatch, capsys):
    """run(*arguments): (exit code, stdout, stderr) of `asym webhooks ...`."""
    monkeypatch.setenv("ASYM_API_URL", api_url)
    monkeypatch.setenv("ASYM_API_KEY", key)
    monkeypatch.setattr("client.cli.webhooks.POLL_SECONDS", 0.05)
    monkeypatch.setattr("api.webhooks.deliverer.POLL_SECONDS", 0.05)

    def command(*arguments):
        with pytest.raises(SystemExit) as raised:
            main(["webhooks", *arguments])
        said = capsys.readouterr()
        return raised.value.code or 0, said.out, said.err

    return command


def test_a_webhook_from_its_making_to_its_end(run, asym):
    with receiving() as receiver:
        code, secret, told = run("create", receiver.url(), "--name", "n", "--event", "failed", "--tag", "t")
        assert code == 0
        hook_id = told.partition(";")[0]
        (found,) = json.loads(run("list", "--json")[1])
        assert (found["id"], found["events"], found["tags"], found["active"]) == (hook_id, ["job.failed"], ["t"], True)
        assert "secret" not in found
        code, said, _ = run("test", hook_id)
        assert (code, said.split(" ", 1)[1]) == (0, "delivered: answered 204\n")
        assert receiver.told[0].verified(secret.strip())["type"] == "webhook.test"
        receiver.status = 500
        code, said, _ = run("replay", hook_id, said.split()[0], "--json")
        assert (code, json.loads(said)["error"]) == (1, "answered 500")
        assert "500" in run("show", hook_id)[1]
        assert [each["status"] for each in asym.deliveries(hook_id, status="pending")] == ["pending"]
        assert "failing for" in run("list")[1]
        assert json.loads(run("show", hook_id, "--json")[1])["deliveries"][0]["status"] == "pending"
        assert run("edit", hook_id, "--off", "--event", "alert")[1] == f"{hook_id}: off\n"
        assert json.loads(run("edit", hook_id, "--name", "m", "--json")[1])["name"] == "m"
        assert asym.webhook(hook_id)["events"] == ["job.alert"]
        changed = run("rotate", hook_id, "--grace", "60")[1]
        assert changed.startswith("whsec_")
        assert changed != secret
        assert run("delete", hook_id)[1] == f"{hook_id} deleted\n"
        assert asym.webhooks() == []


def test_json_of_every_command(run):
    with receiving() as receiver:
        made = json.loads(run("create", receiver.url(), "--json")[1])
        assert made["secret"].startswith("whsec_")
        assert json.loads(run("test", made["id"], "--json")[1])["status"] == "delivered"
        assert json.loads(run("rotate", made["id"], "--json")[1])["secret"] != made["secret"]
        assert json.loads(run("delete", made["id"], "--json")[1]) == {"id": made["id"], "deleted": True}


def test_what_is_refused_is_said(run):
    code, _, said = run("create", "https://elsewhere.example/")
    assert code == 2
    assert "ASYM_WEBHOOK_HOSTS" in said
    assert run("show", "hook_none")[0] == 2
