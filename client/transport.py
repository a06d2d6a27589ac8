"""One HTTP exchange with the API: the bearer key, retries with backoff, and problems turned into exceptions."""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from client.credentials import Credentials
from client.errors import AsymError, Unreachable

PASSING = frozenset({429, 502, 503, 504})
"""Statuses that say: the same request may well succeed in a moment."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0


class Transport:
    """A pooled connection to one API. Thread-safe."""

    def __init__(self, credentials: Credentials, *, timeout: float, retries: int) -> None:
        self.api_url = credentials.api_url
        self._retries = retries
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=credentials.api_url,
            headers={"Authorization": f"Bearer {credentials.api_key}"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
        )

    def close(self) -> None:
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,  # noqa: ANN401 (any JSON value)
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Any:  # noqa: ANN401 (any JSON value)
        """Send one request and return the decoded answer; None for an empty one.

        `repeatable` requests (GET unless told otherwise) are tried again after a passing failure. Others only when
        the connection could not be made, since then the server has seen nothing of them.
        """
        request = self._http.build_request(
            method, path, params=_given(params), json=body, headers=dict(headers) if headers else None
        )
        response = self._exchange(request, repeatable=method == "GET" if repeatable is None else repeatable)
        return response.json() if response.content else None

    def _exchange(self, request: httpx.Request, *, repeatable: bool) -> httpx.Response:
        pauses = _pauses(self._retries)
        while True:
            pause = next(pauses, None)
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                if pause is None or not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise self._unreachable(error) from error
            else:
                if response.is_success:
                    return response
                if pause is None or not repeatable or response.status_code not in PASSING:
                    raise problem_of(response)
                pause = max(pause, _retry_after(response))
            time.sleep(pause)

    def tagged(self, path: str) -> tuple[Any, str | None]:
        """GET an answer along with its ETag."""
        response = self._exchange(self._http.build_request("GET", path), repeatable=True)
        return response.json(), response.headers.get("ETag")

    def upload(self, path: str, *, files: Mapping[str, Any], data: Mapping[str, str]) -> Any:  # noqa: ANN401
        """POST a multipart body, read from its file as it is sent; never repeated, the file may be a pipe."""
        # Hashing and checking gigabytes takes the server its time after the last byte.
        patient = httpx.Timeout(self._timeout, read=None, connect=min(self._timeout, 5.0))
        try:
            response = self._http.post(path, files=files, data=data, timeout=patient)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise problem_of(response)
        return response.json()

    def wait_for(self, path: str, body: Mapping[str, Any], *, seconds: float) -> Any:  # noqa: ANN401 (any JSON value)
        """POST and wait so long for an answer that takes its time; never repeated."""
        timeout = httpx.Timeout(self._timeout, read=seconds, connect=min(self._timeout, 5.0))
        try:
            response = self._http.post(path, json=dict(body), timeout=timeout)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise problem_of(response)
        return response.json()

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], params: Mapping[str, Any] | None = None, read_timeout: float
    ) -> Iterator[httpx.Response]:
        """GET an answer that comes bit by bit. Unreachable when it breaks off, also while it is being read."""
        timeout = httpx.Timeout(self._timeout, read=read_timeout, connect=min(self._timeout, 5.0))
        try:
            with self._http.stream(
                "GET", path, headers=dict(headers), params=_given(params), timeout=timeout
            ) as response:
                if not response.is_success:
                    response.read()
                    raise problem_of(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def status_of(self, path: str) -> int | None:
        """The status a plain GET meets now, without retries; None when nobody answers."""
        try:
            return self._http.get(path).status_code
        except httpx.TransportError:
            return None

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(
            f"the Asym API at {self.api_url} does not answer",
            detail=f"{reason}. Is it running? `asym up` starts it",
        )


def problem_of(response: httpx.Response) -> AsymError:
    """The exception for an answer that is no success, whether it holds a problem document or a proxy's page."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict) and isinstance(told := problem.get("error"), dict):
        # Of the OpenAI-compatible routes.
        problem = {"title": response.reason_phrase, "detail": told.get("message"), "errors": told.get("errors")}
    if not isinstance(problem, dict):
        problem = {"title": response.reason_phrase, "detail": response.text[:200].strip()}
    return AsymError.from_problem(response.status_code, problem)


def _given(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {name: value for name, value in params.items() if value is not None} if params else None


def _pauses(retries: int) -> Iterator[float]:
    for attempt in range(retries):
        # Jitter, so that a hundred clients of a restarted API do not come back in step.
        yield min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("Retry-After", "0")), 30.0)
    except ValueError:  # an HTTP date: our own backoff does
        return 0.0
