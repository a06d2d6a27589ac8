from streamlit.testing.v1 import AppTest

from dashboard.views import history


def lines(count, attempt=1, first=0):
    return [{"id": first + n + 1, "line": f"line {first + n}", "attempt": attempt} for n in range(count)]


def test_blocks_of_the_log_begin_at_the_same_lines_however_many_come():
    before, after = history.log_blocks(lines(450)), history.log_blocks(lines(500))
    assert [len(block) for block in after] == [200, 200, 100]
    assert after[:2] == before[:2]
    assert after[2][:50] == before[2]


def test_a_change_of_attempt_is_told_between_its_lines():
    (block,) = history.log_blocks([*lines(2), *lines(2, attempt=2, first=2)])
    assert block == ["line 0", "line 1", "──────── attempt 2 ────────", "line 2", "line 3"]


def test_of_a_long_log_the_newest_blocks_are_on_the_page():
    blocks = history.log_blocks(lines(5000))
    assert sum(map(len, blocks)) <= history.LOG_LINES + history.BLOCK
    assert blocks[-1][-1] == "line 4999"
    assert blocks[0][0] == "line 3800"


PAGE = """
import streamlit as st
from dashboard.live import Feed
from dashboard.views import history

class Api:
    api_url = "http://api"

    def logs(self, job_id, after=0, limit=500, tail=None):
        st.session_state.asked.append(("tail", tail) if tail else ("after", after))
        lines = st.session_state.lines
        new = lines[-tail:] if tail else [line for line in lines if line["id"] > after][:limit]
        return {"data": new, "has_more": not tail and len(new) == limit}

    def events(self, job_id, after, limit, types):
        st.session_state.asked.append(("events", after))
        return {"data": [], "has_more": False}

    def checkpoints(self, job_id):
        return []

history.show(Api(), "job_1")
"""


def test_the_log_begins_with_its_end_and_goes_on_from_there():
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state.asked, page.session_state.lines = [], lines(3000)
    page.run()
    assert not page.exception
    assert page.code[-1].value.endswith("line 2999")
    page.session_state.lines = lines(3010)
    page.run()
    assert page.code[-1].value.endswith("line 3009")
    assert [asked for asked in page.session_state.asked if asked[0] != "events"] == [("tail", 1000), ("after", 3000)]
