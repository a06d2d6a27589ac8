"""The application: routes, middleware, and what runs beside them. `python -m api` serves it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from anyio import to_thread
from fastapi import FastAPI

from api import health, openapi, problems, telemetry
from api.audit import routes as audit
from api.audit.trail import AuditTrail
from api.background import running, sweep_regularly
from api.cluster import routes as cluster
from api.comparing import routes as comparing
from api.datasets import routes as datasets
from api.events import routes as events
from api.events.feed import READERS
from api.history import routes as history
from api.jobs import routes as jobs
from api.keys import routes as keys
from api.limits.rates import RateLimits
from api.limits.timeouts import RequestTimeouts
from api.limits.watchers import WatcherLimit
from api.listener import Woken, listen
from api.members import routes as members
from api.metrics import routes as metrics
from api.openai import completions as openai_completions
from api.openai import files as openai_files
from api.openai import jobs as openai_jobs
from api.openai import models as openai_models
from api.request_bodies import BodyBounds
from api.request_ids import RequestIds
from api.response_headers import ResponseHeaders
from api.sign_in import routes as sign_in
from api.state import POOL_SIZE, ApiState
from api.sweeps import routes as sweeps
from api.webhooks import routes as webhooks
from api.webhooks.deliverer import Deliverer
from store.journal import JOBS_CHANNEL
from store.sampling_ends import ANSWERS_CHANNEL
from store.settings import Settings

MAX_JSON_BYTES = 2**20
MULTIPART_BYTES = 2**20
"""What an upload may have besides its file: boundaries, headers, text parts."""

UPLOADS = ("/datasets", "/v1/files")

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/sign-in", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""The paths that ask for no key. (/metrics asks for a token of its own: api.telemetry.)"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """One application. SettingsError when a setting that it needs is missing; the servers may be away.

    settings: without them, those of the environment.
    """
    state = ApiState(settings or Settings.from_environment())
    app = FastAPI(
        title="Asym",
        version=version("asym-core"),
        lifespan=_lifespan,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.api = state
    app.openapi = partial(openapi.describe, app)  # type: ignore[method-assign]
    problems.register(app)
    app.add_middleware(
        BodyBounds,
        limits=dict.fromkeys(UPLOADS, state.settings.max_upload_bytes + MULTIPART_BYTES),
        default=MAX_JSON_BYTES,
    )
    # The last is the outermost.
    app.add_middleware(RequestTimeouts, seconds=state.settings.request_seconds)
    app.add_middleware(WatcherLimit, most=state.settings.watchers_per_key)
    app.add_middleware(RateLimits, rates=state.rates, settings=state.settings, secret=state.secret)
    app.add_middleware(AuditTrail, state=state)
    app.add_middleware(ResponseHeaders)
    app.add_middleware(telemetry.Telemetry, state=state)
    app.add_middleware(RequestIds)
    work = (datasets, jobs, sweeps, metrics, comparing, events, history)
    people = (keys, sign_in, members, audit, webhooks)
    openai = (openai_files, openai_jobs, openai_models, openai_completions)
    for domain in (*work, *people, cluster, health, telemetry, *openai):
        app.include_router(domain.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: ApiState = app.state.api
    # As many requests at once as there are connections: the others wait for a thread, without a time limit.
    await to_thread.run_sync(state.artifacts.clear_incoming)
    to_thread.current_default_thread_limiter().total_tokens = 2 * POOL_SIZE - READERS
    state.rates.bind()
    woken: dict[str, Woken] = {JOBS_CHANNEL: state.feeds, ANSWERS_CHANNEL: state.samplings}
    async with (
        running("listener", partial(listen, state.database_url, woken)),
        running("sweeper", partial(sweep_regularly, state)),
        running("webhooks", Deliverer(state).run),
    ):
        yield
    state.samplings.close()
    state.feeds.close()
    await state.feeds.wait_closed()
    await state.rates.close()
    state.database.dispose()
    state.platform.dispose()
