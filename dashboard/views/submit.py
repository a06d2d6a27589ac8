"""A new run: the form of a spec, what the platform says of it while it is filled in, and the run it becomes.

`?clone=JOB` starts from that run's spec: empty fields are its own, and what is typed is what differs.
"""

import json
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import streamlit as st
import yaml

from client import Asym, AsymError, Unreachable
from dashboard import live, spec_form, wording
from dashboard.differences import SECTIONS, differing, in_order
from dashboard.spec_form import Field
from dashboard.views import datasets

FIRST = ("name", "model.id", "data.train", "reward.kind", "algorithm.preset", "train.steps")
"""What nobody can leave to the defaults, or wants to."""
BESIDE = frozenset({"tags", "notes"})
"""What a request takes beside the spec; a clone keeps its own."""
TEXTS = frozenset({"notes", "name", "model.id", "data.train", "data.system_prompt", "data.prompt_template"})
KINDS = ("math", "numeric", "exact", "choice", "regex")
TITLES = {"diagnostics": "Diagnostics", "eval": "Evaluation", "optim": "Optimisation"}
KEPT_SECONDS = 10.0
"""How long an answer to the same spec stands: the queue moves meanwhile."""


def show(api: Asym, open_run: Callable[[str], NoReturn]) -> None:
    source_id = st.query_params.get("clone", "")
    with live.api_trouble():
        source = api.job(source_id) if source_id else None
        st.title("New run" if source is None else "Run it again, with changes")
        if source is not None:
            st.caption(f"Empty fields stay as they are in {wording.inert(source['name'])} (`{source['id']}`).")
        fields = _schema_fields(api.api_url, api)
        if source is not None:
            fields = [field for field in fields if field.section not in BESIDE]
        base: Mapping[str, Any] = source["spec"] if source else {}
        left, right = st.columns([1.6, 1], gap="large")
        if (uploaded := st.session_state.pop("submit_uploaded", None)) is not None:
            st.session_state[_key(source_id, "data.train")] = uploaded
        # What was typed so far is known before the fields are drawn, so that each can show what is wrong with it.
        typed = {field.path: str(st.session_state.get(_key(source_id, field.path)) or "") for field in fields}
        changes, wrong = spec_form.filled(typed, TEXTS)
        spec = spec_form.merged(base, changes)
        found, refusal = (None, None) if wrong else _asked(api, spec)
        problems = {path: [message] for path, message in wrong.items()}
        # Nobody has left out anything in a form that was just opened.
        if refusal is not None and (source is not None or any(typed.values())):
            problems |= spec_form.by_field(refusal.errors, FIRST)
        resolved = found["spec"] if found else base
        with left:
            _form(api, source_id, fields, resolved, problems)
        with right:
            label = "Start the run" if source is None else "Start the changed run"
            # Above what is said of the spec: below, it would move when that changes, as it does when the field typed
            # last is left for the button, and the click be lost.
            # Never disabled: it would be until what was typed last has been judged, and a press before that go nowhere.
            if st.button(label, type="primary", icon=":material/rocket_launch:"):
                if found is not None and not wrong:
                    _start(api, source_id, changes if source_id else spec, open_run)
                else:
                    st.error("Not started: it cannot be as it stands.")
            _outlook(found, refusal, problems, typed)
            if source is not None and found is not None:
                _differences(source, found["spec"])
            _as_files(api, spec, source_id, changes)


def _key(source_id: str, path: str) -> str:
    return f"submit/{source_id}/{path}"


@st.cache_data(max_entries=8, ttl=600, show_spinner=False)
def _schema_fields(api_url: str, _api: Asym) -> list[Field]:
    return spec_form.fields(_api.spec_schema())


def _asked(api: Asym, spec: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, AsymError | None]:
    """What the platform says of the spec: its answer, or its refusal."""
    asked = json.dumps(spec, sort_keys=True, default=str)
    kept = st.session_state.get("submit_answer")
    if kept and kept[0] == asked and time.monotonic() - kept[1] < KEPT_SECONDS:
        return kept[2]  # type: ignore[no-any-return]
    answer: tuple[Mapping[str, Any] | None, AsymError | None]
    try:
        answer = api.validate_job(json.loads(asked)), None
    except Unreachable:
        raise
    except AsymError as error:
        if error.status not in (404, 413, 422):
            raise
        answer = None, error
    st.session_state["submit_answer"] = (asked, time.monotonic(), answer)
    return answer


def _form(
    api: Asym, source_id: str, fields: list[Field], resolved: Mapping[str, Any], problems: Mapping[str, list[str]]
) -> None:
    known = {field.path: field for field in fields}
    for path in FIRST:
        _first(api, source_id, known[path], resolved, problems.get(path, []))
    rest = [field for field in fields if field.path not in FIRST]
    sections = [*SECTIONS, *sorted({field.section for field in rest} - set(SECTIONS))]
    for section in sections:
        of_section = [field for field in rest if field.section == section]
        if not of_section:
            continue
        given = sum(bool(st.session_state.get(_key(source_id, field.path))) for field in of_section)
        bad = any(problems.get(field.path) for field in of_section) or bool(problems.get(section))
        title = TITLES.get(section, section.capitalize())
        note = f" · {given} set" if given else ""
        # Its title is its identity: with another one it would fall shut under the hands of whoever types.
        with st.expander(f"{title}{note}", expanded=bad or given > 0):
            for message in problems.get(section, []) if section not in known else []:
                st.error(wording.inert(message))
            columns = st.columns(2)
            for index, field in enumerate(of_section):
                with st.container() if field.long else columns[index % 2]:
                    _field(source_id, field, resolved, problems.get(field.path, []))


def _first(api: Asym, source_id: str, field: Field, resolved: Mapping[str, Any], problems: list[str]) -> None:
    """One of the fields that everybody fills in, with what the platform knows to choose from."""
    key, now = _key(source_id, field.path), spec_form.value_at(resolved, field.path)
    if field.path == "data.train":
        _training_data(api, key, now, problems)
        return
    options: list[str] = []
    if field.path == "model.id":
        options = [model["id"] for model in api.models()]
    elif field.path == "reward.kind":
        options = list(KINDS)
    elif field.path == "algorithm.preset":
        options = [preset["name"] for preset in api.presets()]
    titles = {
        "name": "Name", "model.id": "Model", "reward.kind": "Verifier", "algorithm.preset": "Algorithm",
        "train.steps": "Steps",
    }  # fmt: skip
    if options:
        st.selectbox(
            titles[field.path],
            options,
            index=None,
            key=key,
            placeholder=now or ("choose, or type one" if field.path != "algorithm.preset" else "choose one"),
            help=field.help or None,
            accept_new_options=field.path != "algorithm.preset",
        )
    else:
        st.text_input(titles[field.path], key=key, placeholder=now or field.default, help=field.help or None)
    _complain(problems)


def _training_data(api: Asym, key: str, now: str, problems: list[str]) -> None:
    sets = {each["id"]: each for each in api.datasets(limit=200)}

    def named(dataset_id: str) -> str:
        each = sets.get(dataset_id)
        return dataset_id if each is None else f"{each['name']} v{each['version']} · {each['rows']} rows"

    st.selectbox(
        "Training data",
        list(sets),
        index=None,
        key=key,
        format_func=named,
        placeholder=named(now) if now else "choose a data set, or upload one below",
    )
    _complain(problems)
    with st.popover("Upload a data set", icon=":material/upload:"):
        datasets.upload(api, _use_uploaded)


def _use_uploaded(dataset_id: str) -> None:
    st.session_state["submit_uploaded"] = dataset_id


def _field(source_id: str, field: Field, resolved: Mapping[str, Any], problems: list[str]) -> None:
    key = _key(source_id, field.path)
    now = spec_form.value_at(resolved, field.path) or field.default
    help = field.help or None
    if field.choices:
        st.selectbox(field.label, field.choices, index=None, key=key, placeholder=now, help=help)
    elif field.long:
        st.text_area(field.label, key=key, placeholder=now or "YAML", help=help, height=68)
    else:
        st.text_input(field.label, key=key, placeholder=now, help=help)
    _complain(problems)


def _complain(problems: list[str]) -> None:
    for message in problems:
        st.error(wording.inert(message))


def _outlook(
    found: Mapping[str, Any] | None,
    refusal: AsymError | None,
    problems: Mapping[str, list[str]],
    typed: Mapping[str, str],
) -> None:
    """Will it be taken, when does it start, what does it take."""
    if found is None:
        if not any(typed.values()):
            st.info("Name a model, training data and a verifier; the rest has defaults.")
        elif refusal is not None and not refusal.errors:
            st.error(wording.inert(refusal.detail or refusal.title))
        else:
            count = sum(map(len, problems.values()))
            st.warning(
                f"{count} field{'s' * (count != 1)} to mend or fill in: {', '.join(sorted(filter(None, problems)))}"
            )
        for message in problems.get("", []):
            st.error(wording.inert(message))
        return
    queue, estimate = found["queue"], found["estimate"]
    st.success("The platform would take it.", icon=":material/check:")
    wait, cost = st.columns(2)
    wait.metric("Starts", "now" if queue["eta_seconds"] == 0 else wording.duration(queue["eta_seconds"]))
    wait.caption(f"position {queue['position']}, {wording.inert(queue['wait_reason'])}")
    if estimate is None:
        cost.metric("Takes", wording.NOTHING)
        cost.caption("no run of this model has been measured yet")
    else:
        cost.metric("Takes", wording.duration(estimate["seconds"]))
        hours = f"{estimate['gpu_hours']:.3g} GPU-hours, " if estimate["gpu_hours"] else ""
        cost.caption(f"{hours}{estimate['seconds_per_step']:.3g} s a step, from {len(estimate['runs'])} of your runs")
    for warning in found["warnings"]:
        st.warning(wording.inert(warning))


def _differences(source: Mapping[str, Any], resolved: Mapping[str, Any]) -> None:
    changed = differing([source["spec"], resolved])
    if not changed:
        st.caption("Nothing differs yet: the same run again.")
        return
    st.dataframe(
        [{"Field": path, "Before": before, "Now": now} for path, (before, now) in changed.items()], hide_index=True
    )


def _start(api: Asym, source_id: str, body: Mapping[str, Any], open_run: Callable[[str], NoReturn]) -> None:
    job = api.clone(source_id, body) if source_id else api.create_job(body)
    for key in [key for key in st.session_state if str(key).startswith("submit")]:
        del st.session_state[key]
    open_run(job["id"])


def _as_files(api: Asym, spec: Mapping[str, Any], source_id: str, changes: Mapping[str, Any]) -> None:
    """The same by other means: what was filled in as a file, and as a request."""
    yaml_tab, curl_tab = st.tabs(["YAML", "curl"])
    text = yaml.safe_dump(in_order(spec), sort_keys=False, allow_unicode=True) if spec else ""
    yaml_tab.code(text, language="yaml")
    if spec:
        yaml_tab.download_button("Download", text, file_name="spec.yaml", mime="application/yaml")
    path, body = (f"/jobs/{source_id}/clone", changes) if source_id else ("/jobs", spec)
    curl_tab.code(
        f"curl -H \"Authorization: Bearer $ASYM_API_KEY\" -H 'Content-Type: application/json' \\\n"
        f"  {shlex.quote(api.api_url + path)} \\\n  -d {shlex.quote(json.dumps(body))}",
        language="bash",
        wrap_lines=True,
    )
