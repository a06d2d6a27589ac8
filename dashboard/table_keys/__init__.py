"""Buttons within tables, by keys: Streamlit's answer to a pointer only.

    st.dataframe(...)
    label = table_keys.pressed("runs-keys", columns=2)      what the cell said on which Enter was pressed, or None

One walks a table's cells with the arrows. What the button said decides, as with a click: its row may hold something
else by now.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import streamlit as st


def pressed(key: str, *, columns: int = 1, then: Callable[[str], None] | None = None) -> str | None:
    """What the button says on which Enter or the space bar was pressed since the last run; None: on none.

    Belongs right after its table, whose first `columns` columns are buttons.
    then: called with it before the page runs, as `on_click` of a button is.
    """

    def heard() -> None:
        label = (st.session_state.get(key) or {}).get("pressed")
        if label and then is not None:
            then(label)

    result = _component()(data={"columns": columns}, key=key, on_pressed_change=heard)
    label = result.get("pressed")
    return str(label) if label else None


@cache
def _component() -> Any:  # noqa: ANN401 (Streamlit's renderer; its type is not public)
    return st.components.v2.component("asym_table_keys", js=(files(__package__) / "keys.js").read_text("utf-8"))
