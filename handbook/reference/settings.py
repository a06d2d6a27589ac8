"""Every setting: those of `store.settings`, with their words and bounds from there, and the few that are read
elsewhere."""

from handbook.reference.docstrings import of_fields
from handbook.reference.tables import code, one_line, table, what
from store.settings import Settings

_INTRODUCTION = """# Settings

All of the platform's settings are environment variables. An empty variable counts as none, and a wrong one keeps a
process from starting, with a message that names it. The API and every worker must have the same ones, but for those of
a worker. `asym up` hands its own environment to all parts.

"""
_DEFAULTS = {"home": "`~/.asym`", "artifacts": "`$ASYM_HOME/artifacts`"}
_LISTS = {"hf_allowlist": "list, comma separated", "http_verifiers": "`NAME=URL`, comma separated",
          "outgoing_networks": "networks, comma separated"}  # fmt: skip

ELSEWHERE = {
    "of a worker": {
        "ASYM_WORKER_GPUS": "How many of the visible GPUs it offers; all unless set. Also `asym worker --gpus`.",
        "ASYM_WORKER_LABELS": "What jobs may ask for in `resources.labels`, comma separated. Also "
        "`asym worker --label`.",
        "ASYM_VERL_PYTHON": "For `backend: verl`: the Python of the environment that has `asym-core[verl]` "
        "([scaling](../scaling.md#setting-verl-up)).",
    },
    "of `asym up`": {
        "ASYM_MIRRORS": "Trackers that are told of every run, separated by spaces: `tensorboard:DIR mlflow:URI` "
        "([trackers](../trackers.md)).",
    },
    "of the command line, the SDK and the dashboard": {
        "ASYM_API_URL": "Where the API is, instead of what `$ASYM_HOME/credentials.json` says.",
        "ASYM_API_KEY": "The key, instead of that file's.",
    },
    "of tests": {
        "ASYM_CHROMIUM": "The browser of the browser tests; `/usr/bin/chromium` unless set.",
        "ASYM_FAILPOINTS": "A folder that arms the fault suite's failpoints. Never set it on a platform in use.",
    },
}
"""Who reads it -> variable -> what it means, of those that `store.settings` does not read."""


def variables() -> dict[str, str]:
    """Setting of `store.settings` -> its variable."""
    return {name: f"ASYM_{name.upper()}" for name in Settings.model_fields}


def page() -> str:
    schema, words = Settings.model_json_schema(), of_fields(Settings)
    rows = []
    for name, variable in variables().items():
        value = {key: each for key, each in schema["properties"][name].items() if key != "pattern"}
        rows.append(
            [f"`{variable}`", _LISTS.get(name) or _value(value), _default(name, value), one_line(words.get(name))]
        )
    parts = [_INTRODUCTION, "## Of the API and every worker { #platform }\n\n"]
    parts.append(table(["variable", "value", "default", "meaning"], rows))
    for who, own in ELSEWHERE.items():
        parts.append(f"\n## {who[0].upper()}{who[1:]}\n\n" + table(["variable", "meaning"], _rows(own)))
    return "".join(parts)


def _rows(variables: dict[str, str]) -> list[list[str]]:
    return [[f"`{name}`", meaning] for name, meaning in variables.items()]


def _value(schema: dict[str, object]) -> str:
    text = what(schema, {}).removesuffix(" or null")
    return "path" if schema.get("format") == "path" else "path" if text == "text" and "path" in str(schema) else text


def _default(name: str, schema: dict[str, object]) -> str:
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    default = schema.get("default")
    return "" if default is None or default in ([], {}) else code(default)
