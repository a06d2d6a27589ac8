"""What the shell offers on Tab: ids that the API knows, asked for with little patience. Who knows nothing is silent."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, get_args

from client.errors import AsymError

if TYPE_CHECKING:
    from client.results import Job
    from client.sdk import Asym

PATIENCE_SECONDS = 1.0
NEWEST = 50
"""So many are offered."""

Offer = tuple[str, str]
"""What is put in, and what it is."""


def jobs(incomplete: str) -> list[Offer]:
    return _offered(incomplete, lambda asym: ((job["id"], _told(job)) for job in asym.jobs_page(limit=NEWEST)["data"]))


def datasets(incomplete: str) -> list[Offer]:
    return _offered(
        incomplete,
        lambda asym: ((each["id"], f"{each['name']}, {each['rows']} rows") for each in asym.datasets(limit=NEWEST)),
    )


def sweeps(incomplete: str) -> list[Offer]:
    return _offered(
        incomplete,
        lambda asym: ((each["id"], f"{each['name']}, {each['members']} jobs") for each in asym.sweeps(limit=NEWEST)),
    )


def statuses(incomplete: str) -> list[Offer]:
    from client.results import Status

    return [(status, "") for status in get_args(Status) if status.startswith(incomplete)]


def _told(job: "Job") -> str:
    return f"{job['name']}, {job['status']}"


def _offered(incomplete: str, ask: "Callable[[Asym], Iterable[Offer]]") -> list[Offer]:
    from client.sdk import Asym

    # A word on the screen would be taken for an offer.
    with suppress(AsymError), Asym(timeout=PATIENCE_SECONDS, retries=0) as asym:
        return [(value, told) for value, told in ask(asym) if value.startswith(incomplete)]
    return []
