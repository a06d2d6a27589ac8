"""Metrics as a file, from the API through this server to the browser, piece by piece.

A browser has no key of the API, and a table of millions of rows is not to lie in this server's memory until somebody
fetches it. So a page hands out an address with a random name, good for one question under one session's key; who opens
it is sent what the API sends, as it comes.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from client import Asym, AsymError, Unreachable
from dashboard.kept_curves import JOBS_AT_ONCE

PATH = "export"
LASTS = 3600.0
"""Seconds after it was last shown on a page."""
MOST = 2000
_LINE_END = b"\r\n"


@dataclass
class _Offer:
    api: Asym
    job_ids: tuple[str, ...]
    keys: tuple[str, ...]
    until: float


_offers: OrderedDict[str, _Offer] = OrderedDict()
_lock = threading.Lock()


def address(api: Asym, job_ids: Sequence[str], keys: Sequence[str], known: dict[tuple[str, ...], str]) -> str:
    """Where these metrics are to be had, relative to a page. known: this session's addresses, so that they stay."""
    question = (*job_ids, "", *keys)
    name = known.setdefault(question, secrets.token_urlsafe(24))
    with _lock:
        _offers.pop(name, None)
        _offers[name] = _Offer(api, tuple(job_ids), tuple(keys), time.monotonic() + LASTS)
        while len(_offers) > MOST:
            _offers.popitem(last=False)
    return f"{PATH}/{name}"


def _found(name: str) -> _Offer | None:
    with _lock:
        offer = _offers.get(name)
    return offer if offer is not None and offer.until > time.monotonic() else None


def lines(api: Asym, job_ids: Sequence[str], keys: Sequence[str]) -> Iterator[bytes]:
    """As the API writes them, for any number of jobs: the heading once."""
    for start in range(0, len(job_ids), JOBS_AT_ONCE):
        pieces = api.export_metrics(job_ids[start : start + JOBS_AT_ONCE], keys)
        yield from pieces if start == 0 else _without_heading(pieces)


def _without_heading(pieces: Iterator[bytes]) -> Iterator[bytes]:
    heading = b""
    for piece in pieces:
        heading += piece
        if _LINE_END in heading:
            yield heading.partition(_LINE_END)[2]
            break
    yield from pieces


def send(request: Request) -> Response:
    offer = _found(request.path_params["name"])
    if offer is None:
        return PlainTextResponse("This address has expired: open the comparison again.", status_code=404)
    pieces = lines(offer.api, offer.job_ids, offer.keys)
    try:
        first = next(pieces, b"")
    except (AsymError, Unreachable) as error:
        return PlainTextResponse(str(error), status_code=502)
    name = offer.keys[0].replace("/", "-") if len(offer.keys) == 1 else "metrics"
    headers = {"Content-Disposition": f'attachment; filename="asym-{name}.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(chain([first], pieces), media_type="text/csv; charset=utf-8", headers=headers)


ROUTES = [Route(f"/{PATH}/{{name}}", send, methods=["GET"])]
