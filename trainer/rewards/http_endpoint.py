"""`http:NAME`: an endpoint of the operator's that scores batches.

    POST {"items": [{"prompt", "response", "answer", "metadata"}, ...]}  ->  {"rewards": [0.0, 1.0, ...]}

Where it may lie, and how it tells our calls from others': trainer.spec.outgoing.

Its failures are told apart: a reward that is none is the item's (`bad_reply`, reward 0, counted); an endpoint that
cannot be reached, or answers something else than rewards, is the infrastructure's and ends the attempt. Never does
either become a batch of zeros that nobody notices.
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from trainer.rewards.dispatch import Outcome
from trainer.rewards.process import VerifierUnavailableError
from trainer.spec.outgoing import SIGNATURE_HEADER, AddressRefusedError, Network, Outgoing, sign

MAX_REPLY_BYTES = 2**20
AT_ONCE = 4
"""Requests under way at the same time."""
FIRST_WAIT_SECONDS = 0.5
"""Before the first retry; each further one waits twice as long, up to `MAX_WAIT_SECONDS`."""
MAX_WAIT_SECONDS = 30.0

_SENT = ("prompt", "response", "answer", "metadata")


class _PassingError(Exception):
    """What may be gone on the next try."""


class HttpEndpoint:
    """Speaks as a `Dispatcher` does. `wait` and `clock` are time.sleep and time.monotonic."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        batch_size: int,
        retries: int,
        networks: Sequence[Network] = (),
        signing_secret: str | None = None,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._url = url
        self._batch_size = batch_size
        self._retries = retries
        self._wait = wait
        self._clock = clock
        # No proxy and no password from the environment, and wherever a redirect leads is not the operator's choice.
        self._client = httpx.Client(
            transport=Outgoing(networks, operators=True),
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
        )
        self._signing_secret = signing_secret

    def start(self) -> None:
        pass

    def close(self) -> None:
        self._client.close()

    def run(self, requests: Sequence[Mapping[str, object]], timeout_seconds: float) -> list[Outcome]:
        """The outcome of each request, in order; `timeout_seconds` is for each POST. VerifierUnavailableError."""
        if any(request["op"] != "score" for request in requests):
            return [Outcome(0.0, None, "", 0.0) for _ in requests]
        size = self._batch_size
        batches = [requests[first : first + size] for first in range(0, len(requests), size)]
        with ThreadPoolExecutor(AT_ONCE, f"http-{self._name}") as threads:
            answered = threads.map(lambda batch: self._score(batch, timeout_seconds), batches)
            return [outcome for batch in answered for outcome in batch]

    def _score(self, batch: Sequence[Mapping[str, object]], timeout_seconds: float) -> list[Outcome]:
        started = self._clock()
        items = [{name: request[name] for name in _SENT} for request in batch]
        body = self._reply(json.dumps({"items": items}).encode(), timeout_seconds)
        seconds = (self._clock() - started) / len(batch)
        return [_outcome(reward, seconds) for reward in self._rewards(body, len(batch))]

    def _reply(self, content: bytes, timeout_seconds: float) -> bytes:
        tries = 1 + self._retries
        for attempt in range(tries):
            try:
                return self._post(content, timeout_seconds)
            except _PassingError as error:
                if attempt + 1 == tries:
                    raise self._unavailable(f"{error}, {tries} times") from error
            self._wait(min(FIRST_WAIT_SECONDS * 2**attempt, MAX_WAIT_SECONDS))
        raise AssertionError("unreachable: the last try returns or raises")

    def _post(self, content: bytes, timeout_seconds: float) -> bytes:
        deadline = self._clock() + timeout_seconds
        headers = {"Content-Type": "application/json"}
        if self._signing_secret is not None:
            headers[SIGNATURE_HEADER] = sign(content, self._signing_secret)
        try:
            with self._client.stream(
                "POST", self._url, content=content, headers=headers, timeout=timeout_seconds
            ) as response:
                if response.status_code == 429 or response.status_code >= 500:
                    raise _PassingError(f"status {response.status_code}")
                if response.status_code != 200:
                    raise self._unavailable(f"status {response.status_code}")
                body = b""
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > MAX_REPLY_BYTES:
                        raise self._unavailable(f"a reply of more than {MAX_REPLY_BYTES:,} bytes")
                    if self._clock() > deadline:  # httpx limits the wait for each piece only
                        raise _PassingError(f"no whole reply within {timeout_seconds:g} s")
                return body
        except AddressRefusedError as error:
            raise self._unavailable(f"no answer, for it was not called: {error}") from error
        except httpx.HTTPError as error:
            # Its text may hold the address, which may hold a password.
            raise _PassingError(type(error).__name__) from error

    def _rewards(self, body: bytes, count: int) -> list[object]:
        reply = None
        with contextlib.suppress(ValueError, RecursionError):
            reply = json.loads(body)
        rewards = reply.get("rewards") if isinstance(reply, dict) else None
        if not isinstance(rewards, list) or len(rewards) != count:
            raise self._unavailable(f'a reply that is not {{"rewards": [...]}} with {count} of them')
        return rewards

    def _unavailable(self, reason: str) -> VerifierUnavailableError:
        return VerifierUnavailableError(f"the http verifier {self._name} gave {reason}")


def _outcome(reward: object, seconds: float) -> Outcome:
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not 0.0 <= reward <= 1.0:
        return Outcome(0.0, "bad_reply", f"the endpoint gave {str(reward)[:60]}, not a number from 0 to 1", seconds)
    return Outcome(float(reward), None, "", seconds)
