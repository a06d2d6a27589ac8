"""The page of sweeps: what its tables say, and what it asks of the API."""

from datetime import UTC, datetime

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import sweep_table

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POS, NEG = "algorithm.beta_pos", "algorithm.beta_neg"


def member(number, pos, neg, best, status="succeeded", **more):
    return {
        "number": number,
        "job_id": f"job_{number:026d}",
        "name": f"betas {number}",
        "status": status,
        "step": 30,
        "steps": 60,
        "point": {POS: pos, NEG: neg},
        "seed": 0,
        "last": best,
        "best": best,
        "best_step": 20,
        "stopped_because": None,
        **more,
    }


def combination(pos, neg, best):
    return {
        "point": {POS: pos, NEG: neg},
        "members": 2,
        "measured": 2 if best is not None else 0,
        "last": best,
        "last_spread": 0.02,
        "best": best,
        "best_spread": 0.01,
    }


def sweep(*jobs, **more):
    statuses = {}
    for job in jobs:
        if job["status"]:
            statuses[job["status"]] = statuses.get(job["status"], 0) + 1
    points = list(dict.fromkeys((job["point"][POS], job["point"][NEG]) for job in jobs))
    return {
        "id": "sweep_" + "0" * 25 + "1",
        "name": "betas **bold**",
        "created_at": "2026-03-01T11:58:00Z",
        "members": len(jobs),
        "statuses": statuses,
        "ended_because": None,
        "plan": {"goal": "max", "budget": None},
        "metric": "group/accuracy",
        "used_hours": 3.25,
        "jobs": list(jobs),
        "combinations": [combination(pos, neg, 0.5) for pos, neg in points],
        **more,
    }


GRID = [
    member(2 * i + j, pos, neg, 0.1 * (2 * i + j)) for i, pos in enumerate((0.9, 0.0)) for j, neg in enumerate((0, 0.4))
]


def test_combinations_stand_in_the_order_of_the_api_with_mean_and_spread():
    first, *_ = sweep_table.combinations(sweep(*GRID))
    assert (first["place"], first[POS], first[NEG]) == (1, "0.9", "0")
    assert (first["best"], first["best_spread"], first["measured"]) == (50.0, 1.0, "2 of 2")
    (row,) = sweep_table.combinations(sweep(GRID[0], combinations=[combination(0.9, 0, None)]))
    assert (row["best"], row["measured"]) == (None, "0 of 2")


@pytest.mark.parametrize(
    ("statuses", "asked"),
    [
        (("running", "queued", "failed"), ["pause", "resume", "cancel"]),
        (("paused",), ["resume", "cancel"]),
        (("succeeded", "cancelled"), ["resume"]),
        (("succeeded",), []),
        (("cancelling", "succeeded"), ["cancel"]),
    ],
)
def test_what_is_offered_is_what_would_do_something(statuses, asked):
    found = sweep(*(member(number, 0, number, 0.5, status) for number, status in enumerate(statuses)))
    assert sweep_table.actions(found) == asked


def test_a_deleted_member_has_ended_and_opens_nothing():
    gone = member(1, 0, 1, None, None, job_id=None, name=None, step=None, steps=None)
    found = sweep(member(0, 0, 0, 0.5, "running"), gone)
    assert sweep_table.ended(found) == 1
    assert sweep_table.members(found)[1]["open"] == "deleted"
    assert sweep_table.progress(found) == 0.5


def test_what_was_ended_early_is_told_with_its_reason_and_counts_as_done():
    stopped = member(1, 0, 1, 0.1, "cancelled", stopped_because="0.1 is worse than 0.4")
    found = sweep(member(0, 0, 0, 0.5, "running"), stopped)
    assert sweep_table.ended_early(found) == [{"run": "betas 1 · 00000001", "why": "0.1 is worse than 0.4"}]
    assert sweep_table.progress(found) == 0.75


def test_the_budget_is_told_with_what_is_used_of_it():
    assert sweep_table.budget(sweep(*GRID)) == ("3.25 hours used, no budget", None)
    limited = sweep(*GRID, plan={"goal": "max", "budget": {"hours": 2}})
    assert sweep_table.budget(limited) == ("3.25 hours used of 2", 1.0)


def test_two_parameters_are_a_heatmap_with_values_that_rise():
    drawn = sweep_table.heatmap(sweep(*GRID))
    assert (drawn.rows, drawn.columns) == ((POS, ["0", "0.9"]), (NEG, ["0", "0.4"]))
    assert [[cell.value for cell in row] for row in drawn.cells] == [
        pytest.approx([0.2, 0.3]),
        pytest.approx([0.0, 0.1]),
    ]
    assert sweep_table.heatmap(sweep(*GRID[:2])) is None, "one parameter varies"


def test_drawn_numbers_that_meet_in_no_cell_twice_are_no_heatmap():
    drawn = [member(n, n / 7, n / 3, 0.5) for n in range(8)]
    assert sweep_table.heatmap(sweep(*drawn)) is None


def test_values_that_are_no_numbers_stand_behind_those_that_are():
    jobs = [member(2 * i + j, pos, neg, 0.5) for i, pos in enumerate(("a", None)) for j, neg in enumerate((1, "b"))]
    drawn = sweep_table.heatmap(sweep(*jobs))
    assert (drawn.rows[1], drawn.columns[1]) == (["a", "null"], ["1", "b"])


def test_a_list_tells_how_far_each_is():
    (row,) = sweep_table.listed([sweep(member(0, 0, 0, 0.5, "running"), member(1, 0, 1, 0.5))], NOW)
    assert (row["open"], row["progress"], row["jobs"]) == ("betas **bold** · 00000001", 50, 2)
    assert (row["standing"], row["created"]) == ("1 running, 1 succeeded", "2 min ago")


PAGE = """
import streamlit as st
from dashboard.views import sweeps

class Api:
    api_url = "http://api"

    def sweeps(self, limit):
        return iter(st.session_state.found)

    def sweep(self, sweep_id):
        st.session_state.asked.append(sweep_id)
        return next(each for each in st.session_state.found if each["id"] == sweep_id)

    def cancel_sweep(self, sweep_id):
        st.session_state.asked.append(("cancel", sweep_id))

    pause_sweep = resume_sweep = cancel_sweep

sweeps.show(Api(), lambda job: None, lambda jobs: st.session_state.asked.append(("compare", jobs)))
"""


@pytest.fixture
def page():
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state.asked = []
    page.session_state.found = [sweep(*GRID, member(9, 0, 0, 0.1, "running"))]
    return page


def test_who_has_no_sweep_is_told_how_to_make_one(page):
    page.session_state.found = []
    page.run()
    assert not page.exception
    assert "No sweep yet" in page.info[0].value
    assert "asym sweeps submit" in page.code[0].value


def test_all_of_its_runs_are_compared_with_one_click(page):
    found = page.session_state.found[0]
    page.query_params["sweep"] = found["id"]
    page.run()
    assert not page.exception
    assert page.header[0].value == r"betas \*\*bold\*\*"
    next(button for button in page.button if button.label == "Compare all 5").click().run()
    assert ("compare", ",".join(each["job_id"] for each in found["jobs"])) in page.session_state.asked


def test_before_the_whole_is_cancelled_its_name_and_what_it_holds_are_shown(page):
    found = page.session_state.found[0]
    page.query_params["sweep"] = found["id"]
    page.run()
    page.button(key="sweep-cancel").click().run()
    assert ("cancel", found["id"]) not in page.session_state.asked
    assert any(r"Cancel all of betas \*\*bold\*\*" in text.value for text in page.markdown)
    assert any("1 running, 4 succeeded. Every run" in text.value for text in page.markdown)
    assert page.button(key="confirm-sweep-cancel").label == "Cancel this sweep"


def test_why_no_more_of_it_will_run_is_said(page):
    page.session_state.found = [sweep(*GRID, ended_because="the budget of 2 hours is used up")]
    page.query_params["sweep"] = page.session_state.found[0]["id"]
    page.run()
    assert "budget of 2 hours" in page.warning[0].value
