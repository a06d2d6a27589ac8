"""The pages that are written from the code each time the site is built, and so cannot fall behind it."""

from collections.abc import Callable

from handbook.reference import commands, events, http, metrics, presets, settings, spec

PAGES: dict[str, Callable[[], str]] = {
    "reference/spec.md": spec.page,
    "reference/presets.md": presets.page,
    "reference/metrics.md": metrics.page,
    "reference/events.md": events.page,
    "reference/settings.md": settings.page,
    "reference/commands.md": commands.page,
    "reference/http.md": http.page,
    "reference/schemas.md": http.schemas_page,
}
"""Where each lies in the site -> what writes it."""
