"""Traces: of requests, and of a job's life from the request that made it to its last attempt; and none unless asked."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from store import jobs, tracing

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported():
    exporter = InMemorySpanExporter()
    assert tracing.start("asym-test", SimpleSpanProcessor(exporter))
    yield exporter
    tracing.stop()


def named(exported, name):
    return [span for span in exported.get_finished_spans() if span.name == name]


def test_a_request_is_a_span_within_its_senders_trace(exported, member):
    member.get("/jobs/job_none", headers={"traceparent": TRACEPARENT, "X-Request-ID": "mine"})
    (span,) = named(exported, "GET /jobs/{job_id}")
    assert f"{span.context.trace_id:032x}" == TRACEPARENT.split("-")[1]
    assert f"{span.parent.span_id:016x}" == TRACEPARENT.split("-")[2]
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 404,
        "http.route": "/jobs/{job_id}",
        "asym.request.id": "mine",
    }
    assert "job_none" not in span.to_json()


def test_a_jobs_trace_begins_with_the_request_that_made_it(exported, member, make_job):
    made = make_job(member)
    (asking,) = named(exported, "POST /jobs")
    (first,) = named(exported, "job")
    assert first.parent is None
    assert asking.attributes["asym.job.id"] == first.attributes["asym.job.id"] == made["id"]
    assert first.links[0].context.span_id == asking.context.span_id
    with tracing.span("attempt", job_id=made["id"]), tracing.span("train"):
        ids = tracing.current_ids()
    (attempt,), (train,) = named(exported, "attempt"), named(exported, "train")
    assert attempt.context.trace_id == train.context.trace_id == first.context.trace_id
    assert attempt.parent.span_id == first.context.span_id
    assert train.parent.span_id == attempt.context.span_id
    assert ids == {"trace": f"{first.context.trace_id:032x}", "span": f"{train.context.span_id:016x}"}


def test_a_job_that_is_rolled_back_has_no_trace(exported, database, identity, make_dataset, make_spec):
    def create_and_fail():
        with database.transaction() as session:
            jobs.create(session, identity, make_spec(make_dataset(identity).id))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        create_and_fail()
    assert named(exported, "job") == []


class Collector(BaseHTTPRequestHandler):
    """An OTLP receiver."""

    spans: list = []  # noqa: RUF012

    def do_POST(self):
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.spans += [(names["service.name"], span.name) for each in resource.scope_spans for span in each.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_server_sends_its_traces_where_the_variable_says(start_server, make_key):
    import httpx

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
        assert httpx.get(f"{url}/jobs", headers={"Authorization": f"Bearer {make_key().plain}"}).status_code == 200
        start_server.stop()  # sends what is left
        server.shutdown()
        thread.join()
    assert Collector.spans == [("asym-api", "GET /jobs")]


def test_without_the_variable_nothing_is_imported():
    code = (
        "import sys, api.main, worker.supervisor\n"
        "from store import tracing\n"
        "with tracing.span('x') as span: assert span is None\n"
        "assert tracing.current_ids() == {}\n"
        # Redis's client takes on the metrics of OpenTelemetry by itself, where they are installed.
        "ours = ('opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "assert not [name for name in sys.modules if name.startswith(ours)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_the_packages_it_is_said_and_nothing_breaks(monkeypatch, caplog):
    monkeypatch.setattr(tracing, "_NEEDED", ("no_such_package.sdk",))
    assert tracing.start("asym-test") is False
    assert not tracing.is_on()
    assert "asym-core[otel]" in caplog.text
