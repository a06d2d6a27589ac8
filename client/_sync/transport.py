# Generated from client/_async/transport.py by `./dev sdk`; edit it there.
"""One HTTP exchange with the API: the bearer key, retries with backoff, and problems turned into exceptions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from client.clock import Clock
from client.credentials import Credentials
from client.errors import Unreachable, problem_of
from client.retries import PASSING, pause_before, retry_after_seconds
from client.transfers import CountedFile

CONNECT_SECONDS = 5.0


class Transport:
    """A pooled connection to one API. Threads may share a `Transport`, tasks of one event loop an `AsyncTransport`."""

    def __init__(self, credentials: Credentials, *, timeout: float, retries: int, clock: Clock) -> None:
        self.api_url = credentials.api_url
        self.clock = clock
        self._retries = retries
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=credentials.api_url,
            headers={"Authorization": f"Bearer {credentials.api_key}"},
            timeout=self._patience(timeout),
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
        the server has done nothing of what they ask: the connection could not be made, or it answered 429.
        """
        request = self._http.build_request(
            method, path, params=_given(params), json=body, headers=dict(headers) if headers else None
        )
        response = self._exchange(request, repeatable=method == "GET" if repeatable is None else repeatable)
        return response.json() if response.content else None

    def tagged(self, path: str) -> tuple[Any, str | None]:
        """GET an answer along with its ETag."""
        response = self._exchange(self._http.build_request("GET", path), repeatable=True)
        return response.json(), response.headers.get("ETag")

    def upload(self, path: str, *, file: CountedFile, filename: str, data: Mapping[str, str]) -> Any:  # noqa: ANN401
        """POST a multipart body, read from its file as it is sent. It is sent again only where none of it was taken."""
        # Hashing and checking gigabytes takes the server its time after the last byte.
        patient = self._patience(None)
        parts = {"file": (filename, file, "application/octet-stream")}
        retry = 0
        while True:
            # A request's body is read once.
            request = self._http.build_request("POST", path, files=parts, data=data, timeout=patient)  # type: ignore[arg-type]
            response, error = self._sent(request)
            if response is not None and response.is_success:
                return response.json()
            again = file.rewinds and _nothing_was_done(response, error)
            self._pause_or_give_up(retry, response, error, again=again)
            retry += 1

    def _exchange(self, request: httpx.Request, *, repeatable: bool) -> httpx.Response:
        retry = 0
        while True:
            response, error = self._sent(request)
            if response is not None and response.is_success:
                return response
            passing = response is None or response.status_code in PASSING
            again = (repeatable and passing) or _nothing_was_done(response, error)
            self._pause_or_give_up(retry, response, error, again=again)
            retry += 1

    def _sent(self, request: httpx.Request) -> tuple[httpx.Response | None, httpx.TransportError | None]:
        try:
            return self._http.send(request), None
        except httpx.TransportError as error:
            return None, error

    def _pause_or_give_up(
        self, retry: int, response: httpx.Response | None, error: httpx.TransportError | None, *, again: bool
    ) -> None:
        """Wait for the next try; raise what went wrong when there is to be none."""
        asked = None if response is None else self._retry_after(response)
        pause = pause_before(retry, self._retries, asked) if again else None
        if pause is not None:
            self.clock.sleep(pause)
        elif response is not None:
            raise problem_of(response, retry_after=asked)
        elif error is not None:
            raise self._unreachable(error) from error

    def _retry_after(self, response: httpx.Response) -> float | None:
        return retry_after_seconds(response.headers.get("Retry-After"), self.clock.now())

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], params: Mapping[str, Any] | None = None, read_timeout: float
    ) -> Iterator[httpx.Response]:
        """GET an answer that comes bit by bit. Unreachable when it breaks off, also while it is being read."""
        timeout = self._patience(read_timeout)
        try:
            with self._http.stream(
                "GET", path, headers=dict(headers), params=_given(params), timeout=timeout
            ) as response:
                if not response.is_success:
                    response.read()
                    raise problem_of(response, retry_after=self._retry_after(response))
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def status_of(self, path: str) -> int | None:
        """The status a plain GET meets now, without retries; None when nobody answers."""
        try:
            return (self._http.get(path)).status_code
        except httpx.TransportError:
            return None

    def _patience(self, read: float | None) -> httpx.Timeout:
        return httpx.Timeout(self._timeout, read=read, connect=min(self._timeout, CONNECT_SECONDS))

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(
            f"the Asym API at {self.api_url} does not answer", detail=f"{reason}. Is it running? `asym up` starts it"
        )


def _nothing_was_done(response: httpx.Response | None, error: httpx.TransportError | None) -> bool:
    return isinstance(error, httpx.ConnectError) or (response is not None and response.status_code == 429)


def _given(params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {name: value for name, value in params.items() if value is not None} if params else None
