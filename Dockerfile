# The driver:                docker build -t posthog-driver .
# With the MCP server:       docker build -t posthog-driver:mcp --target mcp .
# With the embedded PostHog: docker build -t posthog-driver:local --target local .
#
#   docker run --rm --env-file .env posthog-driver query "SELECT count() FROM events LIMIT 1"
#
# Settings and keys come from the environment of the container, never from the image.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# A place of its own, readable by everybody: what pip puts into the home of root, no other user can read.
RUN python -m venv /opt/driver
COPY requirements.txt /build/
RUN /opt/driver/bin/pip install -r /build/requirements.txt
COPY setup.py pyproject.toml README.md LICENSE /build/
COPY posthog_driver /build/posthog_driver
RUN /opt/driver/bin/pip install --no-deps /build

FROM build AS build-local
RUN /opt/driver/bin/pip install -c /build/requirements.txt "/build[local]" && rm -rf /opt/driver/lib/python3.*/site-packages/pip*

FROM build AS build-mcp
RUN /opt/driver/bin/pip install -c /build/requirements.txt "/build[mcp]" && rm -rf /opt/driver/lib/python3.*/site-packages/pip*

FROM build AS build-slim
RUN rm -rf /opt/driver/lib/python3.*/site-packages/pip* /opt/driver/lib/python3.*/site-packages/setuptools*

FROM python:3.11-slim AS base
ENV PATH=/opt/driver/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --home-dir /srv/driver --create-home driver
WORKDIR /srv/driver
ENTRYPOINT ["posthog-driver"]
CMD ["--help"]

# The embedded PostHog for demos and CI services; its keys are printed, so it is not for real data.
FROM base AS local
COPY --from=build-local /opt/driver /opt/driver
RUN mkdir /data && chown driver /data
USER 10001
VOLUME /data
EXPOSE 8010
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8010/_health/', timeout=4)"]
CMD ["local", "--host", "0.0.0.0", "--allow-remote", "--port", "8010", "--fixed-keys", "--data", "/data"]

# Tools for language models over HTTP; it starts only with a token in POSTHOG_MCP_TOKEN.
FROM base AS mcp
COPY --from=build-mcp /opt/driver /opt/driver
USER 10001
EXPOSE 8011
# Whether it listens; whether PostHog answers is told by `posthog-driver health`.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8011), 4).close()"]
CMD ["mcp", "--http", "--host", "0.0.0.0", "--port", "8011"]

FROM base AS driver
COPY --from=build-slim /opt/driver /opt/driver
USER 10001
# `health` asks once for the project, within 5 seconds, and ends with 0 or 1.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3 CMD ["posthog-driver", "health"]
