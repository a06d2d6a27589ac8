"""Pages that keep themselves up to date: the last good answer, an API that is away, and coming back by itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import streamlit as st

from client import Asym, AsymError, Unreachable
from dashboard import session, wording

TICK = 2.0
"""Seconds between two looks at something that is running."""
IDLE = 10.0
"""Seconds between two looks at something that may begin to run."""
PROBE = 2.0
KEPT_ANSWERS = 200
"""Per session; the ones not asked for longest go first."""

T = TypeVar("T")


class Feed:
    """Answers of the API for one part of a page. While the API is away, the last answer of this session stands in."""

    def __init__(self, api: Asym) -> None:
        """Where it is made on the page is where `tell` speaks."""
        self.api = api
        # A place that is always there: what comes and goes would move, and so mount anew, everything below it.
        self._notice = st.empty()
        self._oldest: float | None = None

    def get(self, name: str, fetch: Callable[[Asym], T]) -> T:
        """What `fetch` answers. Unreachable only when it never did in this session."""
        kept: dict[str, tuple[float, Any]] = st.session_state.setdefault("asym_last_answers", {})
        if self._oldest is None:  # once away, away for this pass: no page waits for one timeout per chart
            try:
                answer = fetch(self.api)
            except Unreachable:
                if name not in kept:
                    raise
            else:
                kept.pop(name, None)
                kept[name] = (time.time(), answer)
                while len(kept) > KEPT_ANSWERS:
                    del kept[next(iter(kept))]
                return answer
        elif name not in kept:
            raise Unreachable(f"the Asym API at {self.api.api_url} does not answer")
        at, answer = kept[name]
        self._oldest = min(at, self._oldest or at)
        return answer

    def tell(self) -> None:
        """Say so, if what is shown is not fresh."""
        if self._oldest is not None:
            age = wording.duration(time.time() - self._oldest)
            self._notice.warning(
                f"The API at {self.api.api_url} does not answer. Shown is what it said {age} ago; trying again.",
                icon=":material/cloud_off:",
            )


@contextmanager
def api_trouble() -> Iterator[None]:
    """Around whatever asks the API: refusals and outages become a message in the page instead of a traceback."""
    try:
        yield
    except Unreachable as error:
        st.error(
            "The Asym API does not answer. This page comes back by itself when it does.", icon=":material/cloud_off:"
        )
        st.code(str(error), language=None, wrap_lines=True)
        _come_back()
    except AsymError as error:
        if error.status == 401:
            st.error("The API does not accept this key any more.")
            st.button("Sign in with another key", on_click=session.sign_out)
        elif error.status == 404:
            st.error("There is no such thing here, or it belongs to another team.", icon=":material/search_off:")
        else:
            st.error(wording.inert(str(error)))


@st.fragment(run_every=PROBE)
def _come_back() -> None:
    api = session.connection()
    if api is None or api.ready():
        st.rerun()
