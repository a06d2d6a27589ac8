"""The charts of a run's page: what they ask of the API, and what can be fetched of them."""

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import panels
from dashboard.panels.section import Subject

PAGE = """
import streamlit as st
from dashboard.views import run
from tests.unit.dashboard import fake_api

class Api(fake_api.Api):
    def compare(self, job_ids, keys, *, since, **more):
        st.session_state.asked.append((since, more["from_step"]))
        return super().compare(job_ids, keys, since=since, **more)

    def events(self, job_id, **more):
        return {"data": [], "has_more": False}

job = {"id": "job_a", "spec": {"eval": []}, "status": "running"}
run._charts(Api(), job, st.session_state.section_shown, 0.0)
"""


@pytest.fixture
def page():
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state.asked = []
    page.session_state.section_shown = "Optimisation"
    return page


def test_a_refresh_asks_for_the_steps_that_are_new(page):
    for _ in range(3):
        page.run()
        assert not page.exception
    assert page.session_state.asked == [("0", None), ("1", None), ("2", None)]
    page.session_state.section_shown = "Groups"
    page.run()
    assert page.session_state.asked[-1] == ("0", None), "another section has other curves"


def test_a_run_that_is_not_thinned_needs_no_closer_look(page):
    page.session_state["range/job_a"] = [10, 20]
    page.run()
    assert page.session_state.asked == [("0", None)], "what is not thinned has all its steps"


@pytest.mark.parametrize("section", panels.SECTIONS)
def test_every_chart_with_numbers_says_which_metrics_its_file_holds(section):
    spec = {"rollout": {"group_size": 4}, "optim": {"prompts_per_step": 8}, "eval": [{"name": "b", "k": [1, 2]}]}
    keys = panels.SECTIONS[section].keys(spec)
    columns = {key: {"step": [1, 2], "value": [0.5, 0.25]} for key in keys}
    columns["group/histogram"] = {"step": [1, 2], "value": [[1, 2, 3], [3, 2, 1]]}
    for name, drawn in panels.SECTIONS[section].charts(columns, Subject(spec)).items():
        assert drawn.metrics, name
        assert set(drawn.metrics) <= {*keys, "perf/finished_at"}, name
