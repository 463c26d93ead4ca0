# Workers, relay, HTTP door and command line, without the embedded servers of the dev stack.
FROM python:3.11-slim-bookworm AS build
ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir uv==$UV_VERSION
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-default-groups --group app --no-cache

FROM python:3.11-slim-bookworm
RUN useradd --system --no-create-home app
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 LOG_FORMAT=json
COPY --from=build /app/.venv .venv
COPY uv.lock worker.py starter.py ./
COPY temporal_tenancy temporal_tenancy
COPY saas saas
COPY activities activities
COPY workflows workflows
COPY processes processes
# Creates the volume's folder, so that the user may write to it.
RUN mkdir /storage && chown app /storage
USER app
# No shell, so that signals reach the worker.
ENTRYPOINT ["python"]
CMD ["worker.py"]
