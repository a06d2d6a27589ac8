# Generated from client/_async/platform.py by `./dev sdk`; edit it there.
"""The platform: its queue and workers, its models and presets, and who one is there."""

import json
from typing import Any

from client._sync.calls import Calls
from client.results import Me, QueuedJob, Worker


class Platform(Calls):
    """Part of `Asym`."""

    def queue(self, *, limit: int | None = None) -> list[QueuedJob]:
        """The team's queued jobs, newest first, each with its place among those of all teams."""
        return self._listed("/queue", {}, limit)

    def workers(self) -> list[Worker]:
        """Newest first, with their state and what they run; those that were lost stay for a day."""
        result: list[Worker] = (self._transport.json("GET", "/workers"))["data"]
        return result

    def models(self) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = (self._transport.json("GET", "/models"))["data"]
        return result

    def spec_schema(self) -> dict[str, Any]:
        """The JSON schema of what `create_job` takes, every field described; its references point into `$defs`."""
        document = self._transport.json("GET", "/openapi.json")
        asked = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        schemas = json.dumps({**asked, "$defs": document["components"]["schemas"]})
        found: dict[str, Any] = json.loads(schemas.replace(_COMPONENTS, "#/$defs/"))
        return found

    def presets(self) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = (self._transport.json("GET", "/presets"))["data"]
        return result

    def me(self) -> Me:
        """The key in use and its role; its team, what it may use and what it uses."""
        result: Me = self._transport.json("GET", "/me")
        return result

    def ready(self) -> bool:
        """Whether /readyz answers 200 at this moment."""
        return self._transport.status_of("/readyz") == 200


_COMPONENTS = "#/components/schemas/"
