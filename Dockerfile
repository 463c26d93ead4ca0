# Workers, relay, HTTP door and command line, without the embedded servers of the dev stack.
#
# By digest: docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... .
# "docker buildx imagetools inspect python:3.11-slim-bookworm" prints the digest.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir uv==$UV_VERSION
WORKDIR /app
COPY pyproject.toml uv.lock ./
# uv.lock has the hash of every package.
RUN uv sync --frozen --no-default-groups --group app --no-cache --compile-bytecode

FROM ${PYTHON_IMAGE}
# The number is written down since volumes and Kubernetes name it. No home, no shell, no password.
RUN groupadd --system --gid 999 app \
    && useradd --system --uid 999 --gid app --no-create-home --shell /usr/sbin/nologin app
WORKDIR /app
# The file system may be read-only: nothing is written but to /tmp.
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    LOG_FORMAT=json
COPY --from=build /app/.venv .venv
COPY uv.lock worker.py starter.py ./
COPY temporal_tenancy temporal_tenancy
COPY saas saas
COPY activities activities
COPY workflows workflows
COPY processes processes
# Creates the folder of a volume for STORAGE_URL=file:///storage, so that the user may write to it.
# The modules are compiled here, since the user may not write them.
RUN python -m compileall -q temporal_tenancy saas activities workflows processes \
    && mkdir /storage && chown app:app /storage
USER 999:999
# No shell, so that signals reach the worker. Health depends on the process: see docker-compose.yml.
ENTRYPOINT ["python"]
CMD ["worker.py"]
