# The workers, the relay, the HTTP door and the command line, without the servers that a laptop embeds.
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
# The volume's folder, so that it is the user's who writes there.
RUN mkdir /storage && chown app /storage
USER app
# Not a shell: the signals are the worker's.
ENTRYPOINT ["python"]
CMD ["worker.py"]
