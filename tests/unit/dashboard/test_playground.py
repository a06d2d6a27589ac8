"""The playground: what is offered and asked, and how answers, verdicts and refusals are shown."""

import pytest
from streamlit.testing.v1 import AppTest

from client import AsymError
from dashboard.views import playground

PAGE = """
import streamlit as st
from client import AsymError
from dashboard.views import playground

class Api:
    api_url = "http://api"

    def jobs(self, limit):
        return [{"id": "job_1"}, {"id": "job_2"}]

    def checkpoints(self, job_id):
        kept = {"deleted_at": None, "superseded_at": None}
        steps = {"job_1": [(20, kept), (40, kept), (60, kept | {"superseded_at": "t"})], "job_2": []}
        return [{"step": step, **state} for step, state in steps[job_id]]

    def models(self):
        return [{"id": "builtin/tiny-arith"}]

    def chat(self, model, messages, **options):
        asked.append(("chat", model, messages, options))
        if model == "gone":
            raise AsymError("Not Found", status=404, detail="no model **gone**")
        judged = {"asym": {"reward": 1.0, "error": None}} if options["verify"] else {}
        return {"choices": [
            {"index": 0, "message": {"content": "46 <b>*x*</b>"}, "finish_reason": "stop", **judged},
            {"index": 1, "message": {"content": "47"}, "finish_reason": "length"},
        ]}

    def complete(self, model, prompt, **options):
        asked.append(("complete", model, prompt, options))
        return {"choices": [{"index": 0, "text": "46", "finish_reason": "stop"}]}

asked = st.session_state.asked  # the threads that ask know no session
playground.show(Api())
"""


@pytest.fixture
def page():
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state.asked = []
    return page


def send(page):
    page.button[0].click().run()
    assert not page.exception


def test_the_last_checkpoints_and_the_models_are_offered(page):
    page.run()
    assert page.multiselect[0].options == ["job/job_1@40", "builtin/tiny-arith"]
    assert page.multiselect[0].value == ["job/job_1@40"]
    assert "loaded when it is first asked" in page.info[0].value


def test_one_prompt_goes_to_every_model_that_a_link_names(page):
    page.query_params["models"] = "gone,builtin/tiny-arith"
    page.run()
    page.text_area[0].set_value("12+34=")
    page.text_input[0].set_value("Be brief.")
    next(each for each in page.number_input if each.label == "Samples of each").set_value(2)
    page.selectbox[0].set_value("exact")
    page.text_input[2].set_value("46")
    send(page)
    asked = sorted(page.session_state.asked, key=lambda each: each[1])
    assert [each[:2] for each in asked] == [("chat", "builtin/tiny-arith"), ("chat", "gone")]
    _, _, messages, options = asked[0]
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12+34="}]
    assert (options["n"], options["verify"]) == (2, {"kind": "exact", "answer": "46"})
    # What a model says is only ever text; one model's refusal is no other's.
    assert [each.value for each in page.code] == ["46 <b>*x*</b>", "47"]
    assert page.error[0].value == r"no model \*\*gone\*\*"
    assert any(each.value == "1 of 1 right" for each in page.caption)
    # They are still there when something else on the page is touched.
    page.run()
    assert [each.value for each in page.code] == ["46 <b>*x*</b>", "47"]
    assert len(page.session_state.asked) == 2


def test_a_text_is_gone_on_with_as_it_is(page):
    page.run()
    page.text_area[0].set_value("12+34=")
    page.radio[0].set_value("Text")
    send(page)
    [(route, model, prompt, options)] = page.session_state.asked
    assert (route, model, prompt) == ("complete", "job/job_1@40", "12+34=")
    assert (options["stop"], options["verify"]) == (None, None)


def test_nothing_is_asked_without_a_prompt(page):
    page.run()
    send(page)
    assert page.session_state.asked == []
    assert "write a prompt" in page.warning[0].value


@pytest.mark.parametrize(
    ("judged", "finish", "told"),
    [
        (None, "stop", ("ended", "gray")),
        (None, "length", ("cut at the most tokens", "gray")),
        ({"reward": 1.0, "error": None}, "stop", ("right", "green")),
        ({"reward": 0.0, "error": None}, "length", ("wrong, cut at the most tokens", "red")),
        ({"reward": None, "error": "no number"}, "stop", ("cannot be judged: no number", "orange")),
    ],
)
def test_verdicts_in_words(judged, finish, told):
    choice = {"finish_reason": finish} | ({"asym": judged} if judged else {})
    assert playground.verdict(choice) == told


def test_a_refusal_is_told_in_the_apis_words():
    class Away:
        def chat(self, model, **options):
            raise AsymError("Service Unavailable", status=503, detail="no worker is connected")

    assert playground.ask(Away(), ("m", {"messages": []})) == {"model": "m", "error": "no worker is connected"}
