"""The playground: one prompt, several models and checkpoints side by side, some samples of each, judged if wanted.

models=ID,ID: which are chosen at first. Sampling and judging are the workers' (docs/serving.md).
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import streamlit as st

from client import Asym, AsymError
from dashboard import live, wording
from dashboard.live import Feed

RUNS = 15
"""Of the newest the last checkpoint is offered; any other can be typed."""
AT_ONCE = 4
MOST_MODELS = 6
MOST_SAMPLES = 16
CHAT, TEXT = "Chat", "Text"
UNJUDGED = "Not judged"
JUDGES = (UNJUDGED, "math", "numeric", "exact", "regex", "choice", "similarity")
ANSWERS = "playground-answers"

Asked = tuple[str, dict[str, Any]]
"""(model, what is asked of it)"""


def show(api: Asym) -> None:
    st.title("Playground")
    with live.api_trouble():
        feed = Feed(api)
        offered = feed.get("playground", models)
        feed.tell()
        asked = _form(offered)
        if asked is not None:
            st.session_state[ANSWERS] = _ask_all(api, asked)
        elif ANSWERS in st.session_state:
            _columns(st.session_state[ANSWERS])
        else:
            st.info("A model is loaded when it is first asked, which takes some seconds; then it answers at once.")


def models(api: Asym) -> list[str]:
    """What can be chosen: the last checkpoints of the newest runs, then the models of the platform."""
    found = []
    for job in api.jobs(limit=RUNS):
        kept = [each for each in api.checkpoints(job["id"]) if not (each["deleted_at"] or each["superseded_at"])]
        steps = [each["step"] for each in kept]
        if steps:
            found.append(f"job/{job['id']}@{max(steps)}")
    return found + [each["id"] for each in api.models()]


def _form(offered: Sequence[str]) -> list[Asked] | None:
    """What is to be asked of which model; None while nobody asks."""
    linked = [each for each in st.query_params.get("models", "").split(",") if each][:MOST_MODELS]
    with st.form("playground"):
        chosen = st.multiselect(
            "Models and checkpoints",
            [*dict.fromkeys([*linked, *offered])],
            default=linked or list(offered[:1]),
            max_selections=MOST_MODELS,
            accept_new_options=True,
            help="job/JOB_ID@STEP names a checkpoint; any can be typed.",
        )
        prompt = st.text_area("Prompt", key="playground-prompt")
        with st.expander("How to sample, and how to judge"):
            left, right = st.columns(2)
            mode = left.radio("As", (CHAT, TEXT), horizontal=True)
            system = right.text_input("System message", help="For a chat, with models that know chats.")
            samples = left.number_input("Samples of each", 1, MOST_SAMPLES, 1)
            max_tokens = right.number_input("Most tokens", 1, 16_384, 64)
            temperature = left.number_input("Temperature", 0.0, 2.0, 1.0, 0.1)
            top_p = right.number_input("top_p", 0.01, 1.0, 1.0, 0.05)
            seed = left.number_input("Seed", 0, 2**31 - 1, 0)
            stop = right.text_input("Stop before")
            kind = left.selectbox("Verifier", JUDGES)
            answer = right.text_input("Answer")
        sent = st.form_submit_button("Sample", type="primary", icon=":material/play_arrow:")
    if not sent:
        return None
    if not prompt or not chosen:
        st.warning("Choose a model and write a prompt.", icon=":material/edit:")
        return None
    options = {
        "n": int(samples),
        "max_tokens": int(max_tokens),
        "temperature": float(temperature),
        "top_p": float(top_p),
        "seed": int(seed),
        "stop": [stop] if stop else None,
        "verify": None if kind == UNJUDGED else {"kind": kind, "answer": answer},
    }
    if mode == TEXT:
        return [(model, {"prompt": prompt, **options}) for model in chosen]
    messages = [{"role": "system", "content": system}] if system else []
    return [(model, {"messages": [*messages, {"role": "user", "content": prompt}], **options}) for model in chosen]


def ask(api: Asym, asked: Asked) -> dict[str, Any]:
    """{model, choices} or {model, error}."""
    model, options = asked
    try:
        found = api.complete(model, **options) if "prompt" in options else api.chat(model, **options)
    except AsymError as error:
        return {"model": model, "error": error.detail or str(error)}
    return {"model": model, "choices": found["choices"]}


def _ask_all(api: Asym, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """Ask all of them at once, showing each one's answers when they are there."""
    places = [column.empty() for column in st.columns(len(asked))]
    for place, (model, _) in zip(places, asked, strict=True):
        place.text(f"{model}: is asked …")
    answers: list[dict[str, Any]] = [{} for _ in asked]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        running: dict[Future[dict[str, Any]], int] = {
            pool.submit(ask, api, each): number for number, each in enumerate(asked)
        }
        for done in as_completed(running):
            number = running[done]
            answers[number] = done.result()
            with places[number].container():
                _answer(answers[number])
    return answers


def _columns(answers: Sequence[dict[str, Any]]) -> None:
    for column, answer in zip(st.columns(len(answers)), answers, strict=True):
        with column.empty().container():
            _answer(answer)


def _answer(answer: dict[str, Any]) -> None:
    st.text(answer["model"])
    if "error" in answer:
        st.error(wording.inert(answer["error"]), icon=":material/error:")
        return
    if told := tally(answer["choices"]):
        st.caption(told)
    for choice in answer["choices"]:
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        st.code(text or " ", language=None, wrap_lines=True)
        words, color = verdict(choice)
        st.badge(wording.inert_badge(words), color=color)


def tally(choices: Sequence[dict[str, Any]]) -> str:
    """`3 of 4 right`; empty where nothing was judged."""
    judged = [choice["asym"]["reward"] for choice in choices if choice.get("asym")]
    return f"{sum(reward == 1 for reward in judged)} of {len(judged)} right" if judged else ""


def verdict(choice: dict[str, Any]) -> tuple[str, Any]:
    """In words, and its colour: what the verifier says, else how the sample ended."""
    told = choice.get("asym")
    end = "cut at the most tokens" if choice["finish_reason"] == "length" else "ended"
    if told is None:
        return end, "gray"
    if told["reward"] is None:
        return f"cannot be judged: {told['error']}", "orange"
    word = "right" if told["reward"] == 1 else "wrong" if told["reward"] == 0 else f"reward {told['reward']:g}"
    return f"{word}, {end}" if end != "ended" else word, "green" if told["reward"] == 1 else "red"
