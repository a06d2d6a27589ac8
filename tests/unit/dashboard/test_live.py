"""What a page shows of an API that comes and goes."""

import pytest
from streamlit.testing.v1 import AppTest

from client import Unreachable
from dashboard import live

PAGE = """
import streamlit as st
from client import Unreachable
from dashboard.live import Feed, api_trouble

class Api:
    api_url = "http://api"

def fetch(api):
    if st.session_state.away:
        raise Unreachable("no answer")
    return st.session_state.value

with api_trouble():
    feed = Feed(Api())
    found = feed.get("number", fetch)
    feed.tell()
    st.text(f"the number is {found}")
"""


@pytest.fixture
def page():
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state.away = False
    page.session_state.value = 7
    return page


def test_the_last_answer_stands_in_while_the_api_is_away_and_says_so(page):
    page.run()
    assert [text.value for text in page.text] == ["the number is 7"]
    assert not page.warning
    page.session_state.away = True
    page.run()
    assert [text.value for text in page.text] == ["the number is 7"]
    assert "does not answer" in page.warning[0].value
    page.session_state.away = False
    page.session_state.value = 8
    page.run()
    assert [text.value for text in page.text] == ["the number is 8"]
    assert not page.warning


def test_once_away_a_pass_asks_for_nothing_more():
    """A page of ten charts must not wait for ten timeouts."""
    asked = []

    def away(api):
        asked.append(api)
        raise Unreachable("no answer")

    class Api:
        api_url = "http://api"

    feed = live.Feed(Api())
    feed.get("a", lambda api: 1)
    feed.get("b", lambda api: 2)
    assert feed.get("a", away) == 1
    assert feed.get("b", away) == 2
    with pytest.raises(Unreachable):
        feed.get("never seen", away)
    assert len(asked) == 1


def test_answers_of_long_ago_are_let_go():
    class Api:
        api_url = "http://api"

    feed = live.Feed(Api())
    for number in range(live.KEPT_ANSWERS + 50):
        feed.get(f"answer {number}", lambda api, number=number: number)

    def away(api):
        raise Unreachable("no answer")

    with pytest.raises(Unreachable):
        feed.get("answer 0", away)
    assert feed.get(f"answer {live.KEPT_ANSWERS + 49}", away) == live.KEPT_ANSWERS + 49
