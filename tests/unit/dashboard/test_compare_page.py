"""What of a comparison is in its address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from dashboard import colors
from dashboard.views.compare_curves import weight_of, zoom_of
from dashboard.views.compare_runs import as_parameter, chosen

IDS = st.lists(st.sampled_from([f"job_{number:02d}" for number in range(30)]), unique=True, max_size=24)


def styles(parameter):
    given = chosen(parameter)
    return colors.of_runs(given, {job_id: place for job_id, place in given.items() if place is not None})


@given(IDS, IDS)
def test_a_run_keeps_its_colour_whatever_else_is_chosen_or_left_out(first, second):
    before = as_parameter(first, {})
    after = as_parameter(second, chosen(before))
    for job_id in set(first) & set(second):
        assert styles(before)[job_id] == styles(after)[job_id]


@given(IDS)
def test_a_copied_address_shows_the_same_runs_in_the_same_colours(ids):
    address = as_parameter(ids, {})
    assert list(chosen(address)) == ids
    assert as_parameter(ids, chosen(address)) == address
    looks = [(color, tuple(dash or ())) for color, dash in styles(address).values()]
    assert len(set(looks)) == len(looks)


def test_what_is_no_style_is_the_runs_own():
    assert chosen("job_a,job_b~3,,job_a~1,job_c~x") == {"job_a": None, "job_b": 3, "job_c": None}
    assert styles("job_a~999") == styles("job_a")


@pytest.mark.parametrize(
    ("parameter", "zoom"),
    [("10,20.5", (10.0, 20.5)), ("", None), ("1", None), ("a,b", None), ("5,5", None), ("-1,5", None), ("1,inf", None)],
)
def test_a_zoom_of_an_address_is_a_range_or_nothing(parameter, zoom):
    assert zoom_of(parameter) == zoom


@pytest.mark.parametrize(
    ("parameter", "weight"),
    [("0.5", 0.5), ("0.99", 0.99), ("1", 0), ("-0.1", 0), ("nan", 0), ("inf", 0), ("", 0), ("much", 0)],
)
def test_a_smoothing_of_an_address_is_one_of_the_sliders_or_none(parameter, weight):
    assert weight_of(parameter) == weight


PAGE = """
import streamlit as st
from tests.unit.dashboard.fake_api import Api
from dashboard import colors
from dashboard.comparison import Look, Run
from dashboard.views import compare_curves

api = st.session_state.setdefault("api", Api())
runs = [Run(f"job_{n}", f"run {n}", "running", 3, {"seed": n}, 0, ("r",)) for n in range(120)]
compare_curves.show(api, runs, colors.of_runs([run.id for run in runs]), ["r"], Look())
"""


def test_a_refresh_asks_the_api_once_for_fifty_runs_and_for_nothing_else():
    page = AppTest.from_string(PAGE, default_timeout=30)
    for times in (1, 2, 3):
        page.run()
        assert not page.exception
        assert page.session_state.api.asked == ["compare"] * 3 * times
    (table,) = page.dataframe
    assert list(table.value["r", "last"][:2]) == [3.0, 3.0], "the points of both refreshes are there"


def test_while_the_api_is_away_the_curves_stay_and_the_page_says_so():
    page = AppTest.from_string(PAGE, default_timeout=30).run()
    page.session_state.api.away = True
    page.run()
    assert "does not answer" in page.warning[0].value
    assert len(page.dataframe[0].value) == 120
    page.session_state.api.away = False
    page.run()
    assert not page.warning


CHOICE = """
import streamlit as st
from tests.unit.dashboard.fake_api import Api
from dashboard.live import Feed
from dashboard.views import compare_runs

runs, styles = compare_runs.choose(Feed(Api()))
st.text([run.label for run in runs])
"""


def test_a_link_with_a_run_that_was_deleted_shows_the_others():
    page = AppTest.from_string(CHOICE, default_timeout=30)
    page.query_params["jobs"] = "job_a,job_gone_*x*,job_b"
    page.run()
    assert not page.exception
    assert page.text[0].value == "['run job_a', 'run job_b']"
    assert "Deleted, or of another team" in page.warning[0].value
    assert "*x*" not in page.warning[0].value, "what an address says is not Markdown"


OPENED = """
import streamlit as st
from tests.unit.dashboard.fake_api import Api
from dashboard.views import compare

compare.show(st.session_state.setdefault("api", Api()))
"""


def test_a_link_is_answered_with_a_first_chart_and_everything_else_comes_after_it():
    page = AppTest.from_string(OPENED, default_timeout=30)
    page.query_params["jobs"], page.query_params["keys"] = "job_a,job_b", "r"
    page.query_params["smooth"], page.query_params["log"] = "0.5", "true"
    page.run()
    assert not page.exception
    assert page.session_state.api.asked == ["compare"], "one metric, and nothing about the runs"
    assert not page.multiselect
    assert not page.dataframe
    page.run()
    assert page.multiselect[0].value == ["r"]
    assert page.session_state.api.asked == ["compare", "runs", "compare"]
    assert list(page.dataframe[0].value["", "run"]) == ["run job_a", "run job_b"]


def test_a_link_to_another_look_comes_whole():
    page = AppTest.from_string(OPENED, default_timeout=30)
    page.query_params["jobs"], page.query_params["x"] = "job_a,job_b", "time"
    page.run()
    assert page.multiselect
