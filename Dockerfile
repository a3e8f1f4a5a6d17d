# The first stage installs the locked dependencies and collects the static files. The second has no pip cache
# and no compiler, and runs as a user without rights.
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock ./
RUN /venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
    -r requirements.lock
COPY . .
# The secrets that this generates are in /tmp, and stay in this stage.
RUN GATEWAY_DATA_DIR=/tmp/build GATEWAY_STATIC_DIR=/app/collected AI_GATEWAY_ENV_FILE=/dev/null \
    /venv/bin/python manage.py collectstatic --no-input --verbosity 0

FROM python:3.11.13-slim-bookworm
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PORT=8080 \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_DATA_DIR=/data \
    GATEWAY_STATIC_DIR=/app/collected
RUN useradd --system --uid 10001 --user-group --no-create-home gateway \
    && install --directory --owner gateway --group gateway --mode 700 /data \
    && install --directory /app/config
COPY --from=build /venv /venv
COPY --from=build /app /app
# All state of a process is in /data; mount a volume there, and proxy-config.yaml in /app/config.
WORKDIR /app
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=2)"]
# `exec` form: the gateway is process 1 and receives SIGTERM itself.
CMD ["python", "-m", "gateway_project.cli"]
