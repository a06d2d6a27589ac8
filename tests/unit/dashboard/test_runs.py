"""The table of runs: its rows, its pins, and what it asks of the API."""

from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import run_table
from dashboard.views import runs

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def job(number, status="succeeded", **more):
    return {
        "id": f"job_{number:026d}",
        "name": f"run {number}",
        "status": status,
        "attempt": 1,
        "max_attempts": 3,
        "created_at": "2026-03-01T11:58:00Z",
        "started_at": "2026-03-01T11:58:30Z",
        "finished_at": "2026-03-01T11:59:00Z",
        "progress": {"step": 30, "steps": 60, "seconds_per_step": 0.5, "eta_seconds": None},
        "queue": None,
        "model": "builtin/tiny-arith",
        "preset": "asymgrpo",
        "tags": ["baseline"],
        "accuracy": 0.25,
        "used_seconds": 30.0,
        "gpu_seconds": 7200.0,
        "created_by": "key_1",
        "owner": "ci",
        **more,
    }


def test_a_row_tells_a_run_without_another_request():
    curve = {"entropy/informative": {"step": [1, 2, 3], "value": [0.5, None, 0.25]}}
    (row,) = run_table.rows([job(1)], {job(1)["id"]: curve}, [], NOW)
    assert (row["open"], row["pin"]) == ("run 1 · 00000001", f"☆{run_table.APART}00000001")
    assert (row["progress"], row["step"], row["accuracy"], row["gpu_hours"]) == (50, "30/60", 25.0, 2.0)
    assert (row["owner"], row["tags"], row["model"], row["preset"]) == ("ci", ["baseline"], "tiny-arith", "asymgrpo")
    assert (row["informative"], row["spurious"]) == ([0.5, 0.25], [])
    assert set(row) == {"pin", "open", *run_table.TITLES}


def test_a_run_on_cpus_has_no_gpu_hours():
    (row,) = run_table.rows([job(1, gpu_seconds=0.0)], {}, [], NOW)
    assert (row["gpu_hours"], row["worker_time"]) == (None, "30 s")


def test_time_left_is_the_place_in_line_or_the_rest_and_nothing_once_it_has_ended():
    queued = job(1, "queued", queue={"position": 4})
    left = [row["left"] for row in run_table.rows([queued, job(2, "running"), job(3)], {}, [], NOW)]
    assert left == ["no. 4 in line", "15 s", "–"]


def test_what_is_not_measured_is_empty_and_not_0():
    (row,) = run_table.rows([job(1, accuracy=None)], {}, [], NOW)
    assert (row["accuracy"], row["informative"]) == (None, [])


def test_pinned_runs_stand_on_top_in_the_order_of_their_pins_and_once():
    page, away = [job(1), job(2), job(3)], job(9)
    order = [away["id"], job(3)["id"], "job_gone"]
    found = run_table.with_pinned(page, [job(3), away], order)
    assert [each["id"] for each in found] == [job(number)["id"] for number in (9, 3, 1, 2)]


def test_a_star_is_of_the_run_it_names_wherever_that_stands_now():
    star = run_table.star(job(2)["id"], [job(2)["id"]])
    assert star == f"★{run_table.APART}00000002"
    assert run_table.of_star(star, [job(3)["id"], job(2)["id"]]) == job(2)["id"]
    assert run_table.of_star(star, [job(3)["id"]]) is None


def test_what_is_shown_at_first_has_room_in_a_narrow_window():
    """1280 pixels, less the page's margins, its scroll bar and the table's own."""
    columns = [runs.column_config()[name] for name in ("pin", "open", *run_table.SHOWN_FIRST)]
    widths = [getattr(column, "config", column)["width"] for column in columns]  # a button's are within
    assert sum(widths) <= 1280 - 2 * 32 - 15 - 2


def test_keys_of_one_name_are_told_apart():
    names = {"key_aaaaaaaaa1": "ci", "key_aaaaaaaaa2": "ci", "key_b": "Ann"}
    assert run_table.owner_labels(names) == {
        "key_b": "Ann",
        "key_aaaaaaaaa1": "ci · aaaaaaa1",
        "key_aaaaaaaaa2": "ci · aaaaaaa2",
    }


PAGE = """
import streamlit as st
from dashboard.views import runs

class Api:
    api_url = "http://api"

    def jobs_page(self, **asked):
        st.session_state.asked.append(("jobs", asked))
        jobs = st.session_state.jobs
        if asked.get("ids"):
            return {"data": [j for j in jobs if j["id"] in asked["ids"]], "has_more": False}
        limit = asked["limit"]
        return {"data": jobs[:limit], "has_more": len(jobs) > limit}

    def compare(self, ids, keys, max_points):
        st.session_state.asked.append(("compare", list(ids)))
        return {"jobs": {i: {"keys": {k: {"step": [1], "value": [0.5]} for k in keys}} for i in ids}}

    def queue(self, limit):
        st.session_state.asked.append(("queue", limit))
        return [{"id": j["id"], "queue": {"position": 1}} for j in st.session_state.jobs if j["status"] == "queued"]

runs.show(Api(), lambda job: None, lambda jobs: None, lambda: None)
"""


@pytest.fixture
def page():
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state.asked = []
    page.session_state.jobs = [job(number) for number in range(300, 0, -1)]
    return page


def asked(page):
    return [kind for kind, _ in page.session_state.asked]


def test_a_page_of_runs_costs_one_request_for_the_runs_and_one_for_their_curves(page):
    page.run()
    assert not page.exception
    # The first look, which tells whom one may filter for, is the table's, too.
    assert asked(page) == ["jobs", "compare"]
    assert page.dataframe[0].value.shape[0] == 50
    page.session_state.asked = []
    page.session_state["runs-page"] = None  # as a second later
    page.run()
    assert asked(page) == ["jobs"], "the curves of what has ended are known"
    page.session_state.asked = []
    page.button[0].click().run()
    assert page.dataframe[0].value.shape[0] == 100
    assert [(kind, len(what)) for kind, what in page.session_state.asked if kind == "compare"] == [("compare", 50)]


def test_the_api_filters_searches_and_sorts(page):
    page.query_params["q"] = "gsm8k 2"
    page.query_params["status"] = ["running", "failed"]
    page.query_params["tag"] = "paper"
    page.query_params["owner"] = "key_9"
    page.query_params["sort"] = "oldest"
    page.run()
    assert not page.exception
    kind, what = page.session_state.asked[1]  # the first is for what the filters offer
    assert kind == "jobs"
    assert what == {
        "status": ["running", "failed"],
        "owner": "key_9",
        "tags": ("paper",),
        "text": "gsm8k 2",
        "sort": "created",
        "limit": 50,
    }


def test_pinned_runs_of_another_page_come_in_one_request(page):
    page.query_params["pin"] = f"{job(3)['id']},{job(7)['id']},{job(299)['id']}"
    page.run()
    pinned = [what for kind, what in page.session_state.asked if kind == "jobs" and what.get("ids")]
    assert [what["ids"] for what in pinned] == [[job(3)["id"], job(7)["id"]]]
    assert [name.split(" · ")[0] for name in page.dataframe[0].value["open"][:4]] == [
        "run 3",
        "run 7",
        "run 299",
        "run 300",
    ]


def test_a_queued_run_is_told_its_place_by_one_request_for_all(page):
    page.session_state.jobs = [job(number, "queued") for number in range(60, 0, -1)]
    page.run()
    assert asked(page).count("queue") == 1
    assert page.dataframe[0].value["left"][0] == "no. 1 in line"


def test_a_newcomer_is_told_what_to_do_and_a_filter_without_a_match_how_to_get_out(page):
    page.session_state.jobs = []
    page.run()
    assert "No runs yet" in page.info[0].value
    assert "./dev demo" in page.code[0].value
    page.text_input(key="q").set_value("nothing").run()
    assert "No run matches" in page.info[0].value
    assert [button.label for button in page.button] == ["Clear the filters"]
