"""The platform: its queue and workers, its models and presets, and who one is there."""

import json
from typing import Any

from client._async.calls import AsyncCalls
from client.results import Me, QueuedJob, Worker


class AsyncPlatform(AsyncCalls):
    """Part of `Asym`."""

    async def queue(self, *, limit: int | None = None) -> list[QueuedJob]:
        """The team's queued jobs, newest first, each with its place among those of all teams."""
        return await self._listed("/queue", {}, limit)

    async def workers(self) -> list[Worker]:
        """Newest first, with their state and what they run; those that were lost stay for a day."""
        result: list[Worker] = (await self._transport.json("GET", "/workers"))["data"]
        return result

    async def models(self) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = (await self._transport.json("GET", "/models"))["data"]
        return result

    async def spec_schema(self) -> dict[str, Any]:
        """The JSON schema of what `create_job` takes, every field described; its references point into `$defs`."""
        document = await self._transport.json("GET", "/openapi.json")
        asked = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schemas = json.dumps({**asked, "$defs": document["components"]["schemas"]})
        found: dict[str, Any] = json.loads(schemas.replace(_COMPONENTS, "#/$defs/"))
        return found

    async def presets(self) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = (await self._transport.json("GET", "/presets"))["data"]
        return result

    async def me(self) -> Me:
        """The key in use and its role; its team, what it may use and what it uses."""
        result: Me = await self._transport.json("GET", "/me")
        return result

    async def ready(self) -> bool:
        """Whether /readyz answers 200 at this moment."""
        return await self._transport.status_of("/readyz") == 200


_COMPONENTS = "#/components/schemas/"
