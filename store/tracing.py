"""Traces, where OTEL_EXPORTER_OTLP_ENDPOINT says whom to tell (extra `otel`): requests, and a job's attempts.

Until `start` is called nothing of OpenTelemetry is imported, and every function here does nothing. Where the traces go
and how many of them are kept is for the standard OTEL_* variables to say, which the SDK reads itself.

A job's life is a trace of its own whose ids follow from the job's: so the process that accepts it and the workers that
run it, one after the other, write into the same trace without anything being handed on or stored.
"""

import hashlib
import importlib.util
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, SpanContext, Tracer

log = logging.getLogger(__name__)

Attributes = Mapping[str, str | int | float | bool]
_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None
_given_ids: ContextVar[tuple[int, int] | None] = ContextVar("asym_given_ids", default=None)


def start(service: str, processor: "SpanProcessor | None" = None) -> bool:
    """Make traces from here on. False, and a warning, where the packages are missing: the variable may be set for
    others. processor: takes the spans in place of the OTLP exporter."""
    global _provider, _tracer
    if not all(_is_there(name) for name in _NEEDED):
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but no traces are made: pip install 'asym-core[otel]'")
        return False
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """By chance, but for the first span of a job's trace."""

        def generate_trace_id(self) -> int:
            given = _given_ids.get()
            return super().generate_trace_id() if given is None else given[0]

        def generate_span_id(self) -> int:
            given = _given_ids.get()
            return super().generate_span_id() if given is None else given[1]

    resource = Resource.create()
    if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        # Neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES says what it is to be called.
        resource = resource.merge(Resource({"service.name": service}))
    _provider = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
    _provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("asym")
    return True


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def stop(seconds: float = 3.0) -> None:
    """Send what is left, for so long at most, and make no more."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        thread = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
        thread.start()
        thread.join(seconds)


def is_on() -> bool:
    return _tracer is not None


@contextmanager
def span(name: str, attributes: Attributes | None = None, *, job_id: str | None = None) -> Iterator["Span | None"]:
    """What this block does. Within the span that is current, or with `job_id` in that job's trace."""
    if _tracer is None:
        yield None
        return
    context = None if job_id is None else _within(_of_job(job_id))
    with _tracer.start_as_current_span(name, context=context, attributes=dict(attributes or {})) as made:
        yield made


@contextmanager
def request(name: str, headers: Mapping[str, str]) -> Iterator["Span | None"]:
    """A request that is answered in this block; within its sender's trace, where `headers` (traceparent) name one."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(headers)
    with _tracer.start_as_current_span(name, context=context, kind=SpanKind.SERVER) as made:
        yield made


def note(job_id: str, name: str, attributes: Attributes, since: float) -> None:
    """Something of a job that began `since` (time.time()) and is over now."""
    if _tracer is not None:
        begun = int(since * 1e9)
        _tracer.start_span(name, _within(_of_job(job_id)), attributes=dict(attributes), start_time=begun).end()


def job_created(session: Session, job_id: str) -> None:
    """The first span of the job's trace, once this transaction is committed; linked with the request that made it."""
    if _tracer is None:
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, get_current_span

    tracer, asking, began = _tracer, get_current_span(), time.time_ns()
    asking.set_attribute("asym.job.id", job_id)

    def begin(_: Session) -> None:
        first = _of_job(job_id)
        token = _given_ids.set((first.trace_id, first.span_id))
        try:
            links = [Link(asking.get_span_context())] if asking.get_span_context().is_valid else []
            attributes = {"asym.job.id": job_id}
            tracer.start_span("job", Context(), attributes=attributes, links=links, start_time=began).end()
        finally:
            _given_ids.reset(token)

    event.listen(session, "after_commit", begin, once=True)


def current_ids() -> dict[str, str]:
    """`trace` and `span` of the current span, for the log; empty without one."""
    if _tracer is None:
        return {}
    from opentelemetry.trace import get_current_span

    current = get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    return {"trace": f"{current.trace_id:032x}", "span": f"{current.span_id:016x}"}


def _of_job(job_id: str) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags

    digest = hashlib.sha256(job_id.encode()).digest()
    trace_id, span_id = int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _within(parent: "SpanContext") -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(parent), Context())
