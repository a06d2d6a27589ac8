"""What is learnt of a request on its way, and its entry in the audit log once its answer is known (plain ASGI).

Noted are writes by whoever has a key, however they end, and keys that are refused though they were good once, or look
like one. A mistyped key is nobody's and says nothing; it stays out, as do reads.
"""

import logging
from dataclasses import dataclass
from functools import partial

from anyio import to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import DATABASE_AWAY
from api.state import ApiState
from store import audit
from store.access import Identity
from store.audit import Deed
from store.keys import Refused

logger = logging.getLogger(__name__)

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX = 200


@dataclass
class Trail:
    """Filled in by api.auth."""

    identity: Identity | None = None
    refused: Refused | None = None


def trail_of(scope: Scope) -> Trail:
    """The request's."""
    trail: Trail = scope["state"]["trail"]
    return trail


class AuditTrail:
    """Gives each request a `Trail`, and writes the entry before the answer leaves."""

    def __init__(self, app: ASGIApp, *, state: ApiState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trail = Trail()
        scope.setdefault("state", {})["trail"] = trail

        async def send_once_noted(message: Message) -> None:
            if message["type"] == "http.response.start" and (deed := _deed(scope, trail, message)) is not None:
                await self._note(deed)
            await send(message)

        try:
            await self._app(scope, receive, send_once_noted)
        except Exception:
            # The 500 is made further out.
            if (deed := _deed(scope, trail, {"status": 500})) is not None:
                await self._note(deed)
            raise

    async def _note(self, deed: Deed) -> None:
        try:
            await to_thread.run_sync(partial(_record, self._state, deed))
        except DATABASE_AWAY as error:
            # The deed is done or refused; the log of the process is what is left to say so.
            logger.error("not in the audit log: %s: %s", deed, str(error).partition("\n")[0])


def _record(state: ApiState, deed: Deed) -> None:
    with state.database.statements() as session:
        audit.record(session, deed)


def _deed(scope: Scope, trail: Trail, answer: Message) -> Deed | None:
    address = client_address(scope)
    if (refused := trail.refused) is not None:
        if refused.reason == "malformed":
            return None
        ids = (refused.team_id, refused.key_id, refused.member_id)
        return Deed(address, "authenticate", scope["path"][:_MAX], answer["status"], *ids, reason=refused.reason)
    if (identity := trail.identity) is None or scope["method"] in _READS:
        return None
    ids = (identity.team_id, identity.key_id, identity.member_id)
    return Deed(address, _action(scope), _object(scope, answer), answer["status"], *ids)


def client_address(scope: Scope) -> str:
    """As far as can be told: behind a proxy, what uvicorn makes of the headers of proxies it trusts."""
    client = scope.get("client")
    return str(client[0])[:_MAX] if client else "unknown"


def _action(scope: Scope) -> str:
    route = scope.get("route")
    return str(getattr(route, "name", None) or scope["method"])


def _object(scope: Scope, answer: Message) -> str:
    """The id of what was made, else the one in the path, else the path."""
    location = next((value for name, value in answer.get("headers", ()) if name.lower() == b"location"), b"")
    made = location.decode("latin-1").rpartition("/")[2]
    ids = [str(value) for name, value in scope.get("path_params", {}).items() if name.endswith("_id")]
    # NUL is no text of Postgres's.
    return (made or (ids[0] if ids else scope["path"])).replace("\0", "\ufffd")[:_MAX]
