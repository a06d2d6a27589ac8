"""The runs of the team: how far each is, how it does, both entropies at a glance. The address holds the whole view.

What is filtered, sorted and searched is every run there is, by the API; what is shown of them is a page that grows.
A refresh costs one request for the jobs, one for the curves of those that may have changed, and one each where runs
are pinned or queued: never one per run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import streamlit as st

from client import Asym
from dashboard import curves, live, run_table, table_keys, wording
from dashboard.live import Feed

STATUSES = ("queued", "running", "pausing", "paused", "cancelling", "cancelled", "succeeded", "failed")
STATUS_COLORS = ("gray", "blue", "blue", "orange", "orange", "gray", "green", "red")
ENDED = frozenset({"succeeded", "failed", "cancelled"})
ROWS = 50
MOST_ROWS = 1000
"""As many as the API lists in one answer; whoever wants others filters."""
COMPARABLE = 50
"""How many runs one GET /compare may name."""
QUEUE_LOOKED_AT = 200
MOST_PINS = 20
SPARK_POINTS = 40
JUST_NOW = 1.0
"""Seconds for which the answer that the filters were made of serves the table, too."""

OpenRun = Callable[[str], NoReturn]


@dataclass(frozen=True)
class Question:
    """Which runs are asked for, in the API's terms."""

    status: tuple[str, ...]
    owner: str | None
    tags: tuple[str, ...]
    text: str | None
    sort: str
    rows: int

    @property
    def filtered(self) -> bool:
        return bool(self.status or self.owner or self.tags or self.text)

    def ask(self, api: Asym) -> dict[str, Any]:
        return dict(
            api.jobs_page(
                status=list(self.status) or None,  # type: ignore[arg-type]
                owner=self.owner,
                tags=self.tags,
                text=self.text,
                sort=self.sort,
                limit=self.rows,
            )
        )


def show(api: Asym, open_run: OpenRun, compare: Callable[[str], None], new_run: Callable[[], None]) -> None:
    st.title("Runs")
    with live.api_trouble():
        _look_around(api)
        question, columns = _controls()
        busy = bool(st.session_state.setdefault("runs-busy", True))
        every = live.TICK if busy else live.IDLE
        st.fragment(run_every=every)(_table)(api, question, columns, open_run, compare, new_run)


def _look_around(api: Asym) -> None:
    """Whom and what one may filter for is known from runs that were seen: at first from the newest ones."""
    if "runs-owners" not in st.session_state:
        st.session_state["runs-owners"], st.session_state["runs-tags"] = {}, {}
        newest = Question((), None, (), None, run_table.ORDERS["newest"], ROWS)
        _page(Feed(api), newest)


def _controls() -> tuple[Question, list[str]]:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = st.text_input(
            "Search",
            key="q",
            bind="query-params",
            placeholder="Words of name or notes",
            icon=":material/search:",
            width=230,
        )
        status = st.multiselect("Status", STATUSES, key="status", bind="query-params", placeholder="Any", width=230)
        owner = _owner()
        tags = st.multiselect(
            "Tags",
            sorted(st.session_state["runs-tags"]),
            key="tag",
            bind="query-params",
            accept_new_options=True,
            placeholder="Any",
            width=200,
        )
        order = st.selectbox("Order", list(run_table.ORDERS), key="sort", bind="query-params", width=160)
        with st.popover("Columns", icon=":material/view_column:"):
            chosen = st.multiselect(
                "Columns",
                list(run_table.TITLES),
                default=list(run_table.SHOWN_FIRST),
                format_func=lambda name: name.replace("_", " "),
                key="columns",
                bind="query-params",
                width=420,
            )
    rows = int(st.session_state.setdefault("runs-shown", ROWS))
    question = Question(
        tuple(status),
        owner,
        tuple(str(tag) for tag in tags),
        (text or "").strip() or None,
        run_table.ORDERS[order],
        rows,
    )
    return question, [name for name in run_table.TITLES if name in chosen]


def _owner() -> str | None:
    """Key ids in the address: names can be the same."""
    names: dict[str, str] = st.session_state["runs-owners"]
    asked = st.query_params.get("owner", "")
    labels = run_table.owner_labels({**({asked: asked[-run_table.TAIL :]} if asked else {}), **names})
    chosen = st.selectbox(
        "Owner",
        ["", *labels],
        index=["", *labels].index(asked),
        format_func=lambda key: labels.get(key, key) or "Anyone",
        key="runs-owner",
        on_change=_owner_chosen,
        width=150,
    )
    return chosen or None


def _owner_chosen() -> None:
    chosen = st.session_state["runs-owner"]
    if chosen:
        st.query_params["owner"] = chosen
    else:
        st.query_params.pop("owner", None)


def _remember(question: Question, page: Mapping[str, Any]) -> None:
    st.session_state["runs-owners"] |= run_table.owners(page["data"])
    st.session_state["runs-tags"] |= dict.fromkeys(tag for job in page["data"] for tag in job["tags"])
    st.session_state["runs-page"] = (question, time.monotonic(), page)


def _page(feed: Feed, question: Question) -> dict[str, Any]:
    kept = st.session_state.get("runs-page")
    if kept is not None and kept[0] == question and time.monotonic() - kept[1] < JUST_NOW:
        return dict(kept[2])
    page = feed.get(f"runs/{question}", question.ask)
    _remember(question, page)
    return page


def _table(
    api: Asym,
    question: Question,
    columns: Sequence[str],
    open_run: OpenRun,
    compare: Callable[[str], None],
    new_run: Callable[[], None],
) -> None:
    with live.api_trouble():
        feed = Feed(api)
        page = _page(feed, question)
        busy = any(job["status"] in wording.ACTIVE for job in page["data"])
        if busy != st.session_state["runs-busy"]:
            st.session_state["runs-busy"] = busy
            st.rerun()  # with another interval
        pins = pinned()
        jobs = _with_queue(feed, run_table.with_pinned(page["data"], _pinned_jobs(feed, page["data"], pins), pins))
        if not jobs:
            feed.tell()
            _nothing_here(api, question, new_run)
            return
        wanted = {"informative", "spurious"} & set(columns)
        drawn = _curves(feed, jobs) if wanted else {}
        feed.tell()
        _draw(jobs, drawn, columns, pins, open_run)
        with st.container(horizontal=True, vertical_alignment="center"):
            more = page["has_more"] and question.rows < MOST_ROWS
            if more and st.button(f"Show {ROWS} more", on_click=_show_more, icon=":material/expand_more:"):
                st.rerun()  # what is asked for is settled outside of this fragment
            if len(pins) > 1 and st.button(
                f"Compare the {len(pins)} pinned runs", icon=":material/stacked_line_chart:"
            ):
                compare(",".join(pins))
            st.caption(_caption(len(page["data"]), bool(page["has_more"])), width="content")


def _caption(count: int, more: bool) -> str:
    runs = "1 run" if count == 1 else f"{count} runs"
    return f"The first {runs}; a click on a column's head sorts these alone." if more else f"{runs}, all there are."


def _with_queue(feed: Feed, jobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A list of jobs leaves out where the queued ones stand."""
    if not any(job["status"] == "queued" for job in jobs):
        return list(jobs)
    standing = {
        entry["id"]: entry["queue"] for entry in feed.get("queue", lambda api: api.queue(limit=QUEUE_LOOKED_AT))
    }
    return [{**job, "queue": standing.get(job["id"], job["queue"])} for job in jobs]


def _curves(feed: Feed, jobs: Sequence[Mapping[str, Any]]) -> dict[str, curves.Columns]:
    """The sparklines of all rows, in as few requests as the API allows; what has ended is asked for once."""
    ended: dict[str, curves.Columns] = st.session_state.setdefault("runs-curves", {})
    found = {job["id"]: ended[job["id"]] for job in jobs if job["id"] in ended}
    # What was not begun has no curve.
    asked = [job["id"] for job in jobs if job["id"] not in ended and job["progress"]["step"] > 0]
    for start in range(0, len(asked), COMPARABLE):
        part = asked[start : start + COMPARABLE]
        answer = feed.get(
            f"runs/curves/{','.join(part)}",
            lambda api, part=part: api.compare(part, run_table.KEYS, max_points=SPARK_POINTS),  # type: ignore[misc]
        )
        found |= curves.by_run(answer)
    ended |= {job["id"]: found[job["id"]] for job in jobs if job["status"] in ENDED and job["id"] in found}
    while len(ended) > MOST_ROWS:
        del ended[next(iter(ended))]
    return found


def _show_more() -> None:
    st.session_state["runs-shown"] = min(st.session_state["runs-shown"] + ROWS, MOST_ROWS)


def pinned() -> list[str]:
    """The ids in the address's `pin`, as many as may be."""
    return list(dict.fromkeys(part for part in st.query_params.get("pin", "").split(",") if part))[:MOST_PINS]


def _pinned_jobs(feed: Feed, page: Sequence[Mapping[str, Any]], pins: Sequence[str]) -> list[Mapping[str, Any]]:
    """Those of the page, and whichever stand elsewhere or do not meet the filters, in one request."""
    here = [job for job in page if job["id"] in pins]
    away = [job_id for job_id in pins if job_id not in {job["id"] for job in here}]
    if not away:
        return here
    found = feed.get(f"runs/pinned/{','.join(away)}", lambda api: api.jobs_page(ids=away, limit=MOST_PINS))["data"]
    return [*here, *found]


def _star_clicked() -> None:
    _pin(st.session_state["runs-pin"]["label"])


def _pin(label: str) -> None:
    """Puts the run whose star was clicked on top, or lets it go; any other button is left alone.

    By what the star said that was clicked: its row may hold another run by now.
    """
    job_id = run_table.of_star(label, st.session_state.get("runs-seen", ()))
    if job_id is None:
        return
    pins = pinned()
    pins = [each for each in pins if each != job_id] if job_id in pins else [*pins, job_id][-MOST_PINS:]
    if pins:
        st.query_params["pin"] = ",".join(pins)
    else:
        st.query_params.pop("pin", None)


def _draw(
    jobs: Sequence[Mapping[str, Any]],
    curves_of: Mapping[str, curves.Columns],
    columns: Sequence[str],
    pins: Sequence[str],
    open_run: OpenRun,
) -> None:
    rows = run_table.rows(jobs, curves_of, pins, datetime.now(UTC))
    # Also those of the table before, which may be the one that is clicked in.
    before = st.session_state.get("runs-drawn", ())
    st.session_state["runs-drawn"] = drawn = tuple(job["id"] for job in jobs)
    st.session_state["runs-seen"] = {*before, *drawn}
    st.dataframe(
        rows,
        hide_index=True,
        height=min(36 * (len(rows) + 1) + 3, 900),
        row_height=36,
        key="runs-table",
        placeholder=wording.NOTHING,
        column_order=["pin", "open", *columns],
        column_config=column_config(),
    )
    pressed = table_keys.pressed("runs-keys", columns=2, then=_pin)
    label = (st.session_state.get("runs-open") or {}).get("label") or pressed
    if label:
        # By the label that was read and clicked: its row may hold another run by now.
        chosen = next((job["id"] for job in jobs if run_table.label(job) == label), None)
        if chosen:
            open_run(chosen)


def column_config() -> dict[str, Any]:
    """How the columns look, their widths in pixels."""
    config = st.column_config
    title = run_table.TITLES
    return {
        "pin": config.ButtonColumn(
            "",
            type="tertiary",
            key="runs-pin",
            on_click=_star_clicked,
            width=34,
            alignment="left",
            pinned=True,
            help="Pin to the top",
        ),
        "open": config.ButtonColumn("Run", type="tertiary", key="runs-open", width=232, alignment="left", pinned=True),
        "status": config.MultiselectColumn(title["status"], options=STATUSES, color=STATUS_COLORS, width=88),
        "progress": config.ProgressColumn(title["progress"], min_value=0, max_value=100, format="%d %%", width=92),
        "step": config.TextColumn(title["step"], width=72, alignment="right"),
        "left": config.TextColumn(title["left"], width=80),
        "owner": config.TextColumn(title["owner"], width=96, help="The key that submitted it"),
        "tags": config.ListColumn(title["tags"], width=100),
        "model": config.TextColumn(title["model"], width=80),
        "preset": config.TextColumn(title["preset"], width=80),
        "accuracy": config.NumberColumn(
            title["accuracy"],
            format="%.1f %%",
            width=76,
            help="Share of correct rollouts in the newest step. This head sorts the rows that are here; *Order* "
            "sorts all runs that have ended.",
        ),
        "informative": config.LineChartColumn(
            title["informative"], width=86, color="blue", help="Entropy of correct rollouts, nats per token"
        ),
        "spurious": config.LineChartColumn(
            title["spurious"], width=78, color="orange", help="Entropy of incorrect rollouts, nats per token"
        ),
        "gpu_hours": config.NumberColumn(
            title["gpu_hours"],
            format="%.2f",
            width=77,
            help="Of all attempts; none on CPUs. This head sorts the rows that are here; *Order* sorts all runs that "
            "have ended.",
        ),
        "worker_time": config.TextColumn(title["worker_time"], width=92, help="On workers, of all attempts"),
        "attempt": config.NumberColumn(title["attempt"], width=66),
        "created": config.TextColumn(title["created"], width=92),
        "finished": config.TextColumn(title["finished"], width=92),
    }


def _clear() -> None:
    st.session_state["q"] = ""
    st.session_state["status"] = []
    st.session_state["tag"] = []
    st.session_state["runs-owner"] = ""
    st.query_params.pop("owner", None)


def _nothing_here(api: Asym, question: Question, new_run: Callable[[], None]) -> None:
    if question.filtered:
        st.info(
            "No run matches. A search is for words that words of a run's name or notes begin with.",
            icon=":material/filter_alt_off:",
        )
        if st.button("Clear the filters", on_click=_clear):
            st.rerun()
        return
    if question.sort.removeprefix("-") in run_table.OF_ENDED:
        st.info("No run has ended yet that could stand in this order.", icon=":material/hourglass_empty:")
        return
    st.info("No runs yet. Submit one and it appears here by itself.", icon=":material/rocket_launch:")
    if st.button("Make the first one here", type="primary", icon=":material/add_circle:"):
        new_run()
    st.write("**See it work first:** a data set, a small model and a run that learns in about two minutes.")
    st.code("./dev demo", language="bash")
    st.write("**Your own data:** one JSON object a line with a prompt and an answer.")
    st.code(
        "asym datasets upload train.jsonl          # prints the data set's id, ds_…\n"
        "asym submit spec.yaml --watch             # data: {train: ds_…} in the spec",
        language="bash",
    )
    st.write("**Over HTTP:** the same two steps from any program.")
    st.code(
        f'curl -H "Authorization: Bearer $ASYM_API_KEY" -F file=@train.jsonl {api.api_url}/datasets\n'
        f'curl -H "Authorization: Bearer $ASYM_API_KEY" -H "Content-Type: application/json" '
        f"-d @spec.json {api.api_url}/jobs",
        language="bash",
    )
