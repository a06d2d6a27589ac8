"""Metrics as a file: through the dashboard as they come, for whoever has the address."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from client import Unreachable
from dashboard import export


class Api:
    """Sends a line per job, in pieces that break anywhere."""

    def __init__(self, away=False):
        self.asked, self.away = [], away

    def export_metrics(self, job_ids, keys):
        self.asked.append(list(job_ids))
        if self.away:
            raise Unreachable("no answer")
        text = "job_id,r\r\n" + "".join(f"{job_id},1\r\n" for job_id in job_ids)
        yield from (text[at : at + 5].encode() for at in range(0, len(text), 5))


@pytest.fixture
def browser():
    return TestClient(Starlette(routes=export.ROUTES))


def test_pages_of_many_runs_have_one_heading(browser):
    ids = [f"job_{number}" for number in range(120)]
    api = Api()
    answer = browser.get(export.address(api, ids, ["r"], {}))
    assert answer.text == "job_id,r\r\n" + "".join(f"{job_id},1\r\n" for job_id in ids)
    assert [len(part) for part in api.asked] == [50, 50, 20]
    assert answer.headers["content-disposition"] == 'attachment; filename="asym-r.csv"'


def test_a_session_keeps_its_addresses_and_another_has_others():
    known = {}
    first = export.address(Api(), ["a"], ["r"], known)
    assert export.address(Api(), ["a"], ["r"], known) == first
    assert export.address(Api(), ["a"], ["s"], known) != first
    assert export.address(Api(), ["a"], ["r"], {}) != first


def test_an_address_that_was_guessed_or_has_expired_gives_nothing(browser, monkeypatch):
    assert browser.get(f"{export.PATH}/guessed").status_code == 404
    monkeypatch.setattr(export, "LASTS", -1.0)
    api = Api()
    assert browser.get(export.address(api, ["a"], ["r"], {})).status_code == 404
    assert api.asked == []


def test_an_api_that_is_away_is_told(browser):
    answer = browser.get(export.address(Api(away=True), ["a"], ["r"], {}))
    assert (answer.status_code, "no answer" in answer.text) == (502, True)
