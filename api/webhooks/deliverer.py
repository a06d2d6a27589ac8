"""Makes the calls: takes webhooks on for turns (store.webhooks.turns) and tells each what is due.

In the API and not in the workers, since the API has the server's secret, which signs, and one way out to be watched.
Every process of the API does it, and each may end at any moment. A call takes at most `ANSWER_SECONDS`, whatever the
other side does; of its answer only the status is looked at. A receiver that does not answer holds up itself alone: it
takes one of `AT_ONCE` places for that long, and all of a team's together take `TEAM_AT_ONCE` at most.
"""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from ipaddress import ip_network
from typing import TypeVar

import httpx
from anyio import CapacityLimiter
from sqlalchemy.orm import Session

from api.background import to_its_end
from api.problems import DATABASE_AWAY
from api.state import ApiState
from store import logs, tracing
from store.webhooks import signing, turns
from store.webhooks.targets import TargetRefused, checked_url
from store.webhooks.turns import Due, Outcome, Turn
from trainer.spec import failpoints
from trainer.spec.outgoing import AddressRefusedError, AsyncOutgoing, Resolve

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often is looked for what is due, while nothing is."""
ANSWER_SECONDS = 10.0
AT_ONCE = 32
TEAM_AT_ONCE = 4
LAST_BEGINNING_SECONDS = 40.0
"""Of a turn: what is begun later might outlast the lease."""
AWAY_SECONDS = 5.0

Result = TypeVar("Result")


class Deliverer:
    """`resolve`: how names are looked up, where not by the system."""

    def __init__(self, state: ApiState, *, resolve: Resolve | None = None) -> None:
        self._state = state
        self._resolve = resolve
        self._agent = f"Asym-Webhooks/{version('asym-core')}"
        # Of its own: requests wait for neither of these, nor they for requests.
        self._threads = CapacityLimiter(2)
        self._lookups = CapacityLimiter(AT_ONCE)
        self._tasks: dict[asyncio.Task[None], Turn] = {}

    async def run(self) -> None:
        """Until cancelled. Calls that are under way then are broken off, and made again by whoever comes next."""
        # They tell of every call's whole address, and that may hold a password of the other side.
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)
        networks = [ip_network(network) for network in self._state.settings.outgoing_networks]
        transport = AsyncOutgoing(networks, resolve=self._resolve, lookups=self._lookups)
        async with httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=ANSWER_SECONDS,
            headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
        ) as http:
            try:
                while True:
                    await self._look(http)
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self, http: httpx.AsyncClient) -> None:
        """Begin every turn there is room for, then wait a moment, or until there is room again."""
        pause = POLL_SECONDS
        try:
            while len(self._tasks) < AT_ONCE and (turn := await self._ask(self._begin)) is not None:
                task = asyncio.create_task(self._serve(http, turn), name=f"webhook {turn.hook_id}")
                self._tasks[task] = turn
                task.add_done_callback(self._done)
        except DATABASE_AWAY as error:
            logger.warning("webhooks: the database does not answer: %s", str(error).partition("\n")[0])
            pause = AWAY_SECONDS
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(pause)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("webhooks: a turn failed", exc_info=error)

    def _begin(self, session: Session) -> Turn | None:
        counted = Counter(turn.team_id for turn in self._tasks.values())
        return turns.begin(session, [team for team, count in counted.items() if count >= TEAM_AT_ONCE])

    async def _serve(self, http: httpx.AsyncClient, turn: Turn) -> None:
        """Tell one webhook what is due, until nothing is, or its turn has lasted long enough."""
        last_beginning = time.monotonic() + LAST_BEGINNING_SECONDS
        try:
            while time.monotonic() < last_beginning and (due := await self._ask(turns.take, turn)) is not None:
                with logs.bound(hook=turn.hook_id, **({} if due.job_id is None else {"job": due.job_id})):
                    await self._tell(http, turn, due)
            await self._ask(turns.end, turn)
        except DATABASE_AWAY as error:
            # The lease runs out, and then what is not settled is due again.
            logger.warning(
                "webhooks: %s: the database does not answer: %s", turn.hook_id, str(error).partition("\n")[0]
            )

    async def _tell(self, http: httpx.AsyncClient, turn: Turn, due: Due) -> None:
        failpoints.hit("api.webhook_taken")
        about: tracing.Attributes = {"asym.webhook.id": turn.hook_id, "asym.webhook.try": due.tries}
        with tracing.span("webhook", about, job_id=due.job_id):
            outcome = await self._call(http, turn, due)
        failpoints.hit("api.webhook_called")
        status = await self._ask(turns.settle, turn, due, outcome)
        self._state.measured.webhook_tries.labels(status or "lost").inc()
        if outcome.error is not None:
            logger.warning("webhooks: %s, delivery %d, try %d: %s", turn.hook_id, due.id, due.tries, outcome.error)

    async def _ask(self, statement: Callable[..., Result], *values: object) -> Result:
        def ask() -> Result:
            with self._state.platform.transaction() as session:
                return statement(session, *values)

        return await to_its_end(ask, self._threads)

    async def _call(self, http: httpx.AsyncClient, turn: Turn, due: Due) -> Outcome:
        try:
            url = checked_url(due.url, self._state.settings.webhook_hosts)
        except TargetRefused as error:
            return Outcome(None, f"not called: the address {error}")
        versions = [due.secret_version, *([due.secret_version - 1] if due.old_secret else [])]
        secrets = [signing.secret_of(self._state.secret, turn.hook_id, version) for version in versions]
        body = body_of(due)
        headers = signing.headers(secrets, due.id, int(time.time()), body) | {"Content-Type": "application/json"}
        try:
            # httpx limits the wait for each piece only, and a look-up not at all.
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                http.stream("POST", url, content=body, headers=headers) as answer,
            ):
                return _outcome(answer)
        except AddressRefusedError as error:
            return Outcome(None, f"not called: {error}")
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(None, f"no answer within {ANSWER_SECONDS:g} s")
        except httpx.ConnectError:
            return Outcome(None, "no connection could be made")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Its own words may quote the address, or what came back.
            return Outcome(None, f"no answer that can be read ({type(error).__name__})")


def body_of(due: Due) -> bytes:
    """What is sent, the same bytes at every try."""
    data = {key: value for key, value in due.data.items() if key != "at"}
    return json.dumps(
        {"type": due.event, "timestamp": due.data["at"], "data": data}, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _outcome(answer: httpx.Response) -> Outcome:
    status = answer.status_code
    if answer.is_success:
        return Outcome(status, None)
    if answer.is_redirect:
        return Outcome(status, f"answered {status}: redirects are not followed")
    asked = answer.headers.get("Retry-After", "")
    wait = float(asked) if status in (429, 503) and asked.isascii() and asked.isdecimal() and len(asked) < 9 else 0.0
    return Outcome(status, f"answered {status}", wait)
