"""The data sets of the team: what is in them, how long their prompts are; upload and deletion."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from client import Asym, AsymError, Unreachable
from dashboard import live, wording
from dashboard.live import Feed
from dashboard.table_height import height

SHOWN = 200
ROWS = 20
UPLOAD_WIDTH = 520
"""Pixels, whatever is said of a file."""
FORMATS = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"]

Row = Mapping[str, Any]


def show(api: Asym) -> None:
    with live.api_trouble():
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.title("Data sets", width="content")
            with st.popover("Upload a data set", icon=":material/upload:"):
                upload(api, _choose)
        feed = Feed(api)
        found = feed.get("datasets", lambda api: list(api.datasets(limit=SHOWN)))
        feed.tell()
        if not found:
            st.info("No data set yet. Upload JSONL, CSV or Parquet with a prompt and an answer in each row.")
            st.code("asym datasets upload train.jsonl", language="bash")
            return
        _table(found)
        _one(api, feed, found)


def upload(api: Asym, then: Callable[[str], None]) -> None:
    """Ask for a file and upload it. What is wrong with it is shown line by line; `then` gets the new data set's id.

    A form of one width: nothing is asked of the server, and nothing moves, before Upload is pressed. Otherwise what was
    typed last is sent as the button is pressed, what is shown below goes, the button with it, and the click is lost.
    """
    with st.container(width=UPLOAD_WIDTH):
        with st.form("upload", border=False, enter_to_submit=False):
            file = st.file_uploader("JSONL, CSV or Parquet", type=FORMATS)
            with st.expander("Columns of other names"):
                prompt = st.text_input("Column of the prompt", placeholder="found by itself", key="upload-prompt")
                answer = st.text_input("Column of the answer", placeholder="found by itself", key="upload-answer")
            asked = st.form_submit_button("Upload", type="primary", key="upload-data")
        if not asked:
            return
        if file is None:
            st.warning("Choose a file first.")
            return
        columns = {name: column.strip() for name, column in (("prompt", prompt), ("answer", answer)) if column.strip()}
        try:
            dataset = api.upload_dataset(file, filename=file.name, columns=columns)
        except Unreachable:
            raise
        except AsymError as error:
            _refused(error)
            return
    then(dataset["id"])
    st.rerun()


def _refused(error: AsymError) -> None:
    st.error(wording.inert(error.detail or error.title))
    if error.errors:
        st.dataframe(
            [
                {"line": each.get("line"), "field": each.get("field"), "problem": each.get("msg")}
                for each in error.errors
            ],
            hide_index=True,
            height=height(len(error.errors), 320),
        )


def _choose(dataset_id: str) -> None:
    st.query_params["dataset"] = dataset_id
    # Whatever is chosen below: not left to the next run, before which the browser may send what it still shows.
    st.session_state["dataset-chosen"] = dataset_id


def _table(found: Sequence[Row]) -> None:
    config = st.column_config
    now = datetime.now(UTC)
    rows = [
        {
            "name": dataset["name"],
            "version": dataset["version"],
            "rows": dataset["rows"],
            "format": dataset["format"],
            "size": wording.size(dataset["bytes"]),
            "prompts": _characters(dataset),
            "answers": _answers(dataset),
            "repeated": dataset["statistics"]["duplicate_prompts"] if dataset["statistics"] else None,
            "created": wording.ago(dataset["created_at"], now),
            "id": dataset["id"],
        }
        for dataset in found
    ]
    st.dataframe(
        rows,
        hide_index=True,
        height=height(len(rows), 420),
        column_config={
            "name": config.TextColumn("Name", width=210),
            "version": config.NumberColumn("Version", width=62),
            "rows": config.NumberColumn("Rows", format="localized", width=90),
            "format": config.TextColumn("Format", width=80),
            "size": config.TextColumn("Size", width=90),
            "prompts": config.TextColumn("Prompt characters", width=160),
            "answers": config.TextColumn("Answers look like", width=150),
            "repeated": config.NumberColumn("Repeated prompts", width=120),
            "created": config.TextColumn("Created", width=100),
            "id": config.TextColumn("Id", width=250),
        },
    )


def _characters(dataset: Row) -> str:
    found = dataset["statistics"]
    if found is None:
        return wording.NOTHING
    lengths = found["prompt_characters"]
    return f"{lengths['min']} to {lengths['max']}, median {lengths['median']}"


def _answers(dataset: Row) -> str:
    found = dataset["statistics"]
    if found is None:
        return wording.NOTHING
    kinds = found["answer_kinds"]
    return next(iter(kinds)) if len(kinds) == 1 else ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())


def _one(api: Asym, feed: Feed, found: Sequence[Row]) -> None:
    """One data set in full, chosen by its id."""
    by_id = {dataset["id"]: dataset for dataset in found}
    asked = st.query_params.get("dataset")
    if asked in by_id:
        st.session_state.setdefault("dataset-chosen", asked)
    left, middle, right = st.columns([4, 3, 1.2], vertical_alignment="bottom")
    chosen = left.selectbox(
        "Look at",
        list(by_id),
        format_func=lambda key: f"{by_id[key]['name']} v{by_id[key]['version']} · {by_id[key]['rows']} rows",
        key="dataset-chosen",
        on_change=_remember,
    )
    models = feed.get("models", lambda api: api.models())
    model = middle.selectbox(
        "Prompt length in tokens of",
        [entry["id"] for entry in models],
        index=None,
        placeholder="a model",
        key="dataset-model",
    )
    if right.button("Delete", icon=":material/delete:"):
        _delete(api, by_id[chosen])
    if model:
        try:
            lengths = feed.get(f"tokens/{chosen}/{model}", lambda api: api.dataset_tokens(chosen, model))
        except Unreachable:
            raise
        except AsymError as error:
            st.warning(wording.inert(error.detail or error.title))
        else:
            st.text(f"Tokens in a prompt: {_span(lengths['prompt_tokens'])}")
    rows = feed.get(f"rows/{chosen}", lambda api: api.dataset_rows(chosen, limit=ROWS))["data"]
    # As JSON text: a column whose rows differ in type is no table.
    st.code("\n".join(_as_line(row) for row in rows), language="json", wrap_lines=True, height=300)
    st.caption(f"The first {ROWS} rows, as a trainer reads them.")


def _span(lengths: Row) -> str:
    return f"{lengths['min']} to {lengths['max']}, median {lengths['median']}"


def _remember() -> None:
    st.query_params["dataset"] = st.session_state["dataset-chosen"]


def _as_line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


@st.dialog("Delete a data set")
def _delete(api: Asym, dataset: Row) -> None:
    name = f"{wording.inert(dataset['name'])} v{dataset['version']}"
    st.write(f"**Delete {name}?** New runs cannot use it any more; runs that have ended keep what they measured.")
    st.code(dataset["id"], language=None)
    if st.button(f"Delete {name}", type="primary", key="confirm-delete"):
        with live.api_trouble():
            api.delete_dataset(dataset["id"])
            st.query_params.pop("dataset", None)
            st.session_state.pop("dataset-chosen", None)
            st.rerun()
