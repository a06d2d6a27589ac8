"""An attempt as spans of its job's trace, whichever worker makes it."""

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from store import tracing
from store.status import JobStatus


@pytest.fixture
def exported():
    exporter = InMemorySpanExporter()
    assert tracing.start("asym-test", SimpleSpanProcessor(exporter))
    yield exporter
    tracing.stop()


def test_claim_preparation_training_and_end(exported, start_worker, submit, wait_for_status, wait_until):
    job_id = submit("plain")
    start_worker()
    wait_for_status(job_id, JobStatus.SUCCEEDED)
    spans = wait_until(
        lambda: (found := {each.name: each for each in exported.get_finished_spans()}).get("attempt") and found
    )
    assert spans.keys() == {"job", "claim", "attempt", "prepare", "train", "settle"}
    assert len({span.context.trace_id for span in spans.values()}) == 1
    job, attempt = spans["job"], spans["attempt"]
    assert {name for name, span in spans.items() if span.parent and span.parent.span_id == job.context.span_id} == {
        "claim", "attempt",
    }  # fmt: skip
    assert all(spans[name].parent.span_id == attempt.context.span_id for name in ("prepare", "train", "settle"))
    assert attempt.attributes["asym.status"] == "succeeded"
    assert attempt.attributes["asym.attempt"] == 1
