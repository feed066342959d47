# Two stages: what builds stays behind, and what runs holds no compiler, no tests and no root.
FROM python:3.11.14-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Every pinned wheel, its hash checked; from here on nothing is downloaded.
COPY constraints.txt ./
RUN pip download --quiet --only-binary=:all: --no-deps --require-hashes --requirement constraints.txt --dest /wheels
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY storage storage
COPY producers producers
COPY consumer consumer
# Only what running needs: resolved from the checked wheels alone, without the extras for tests.
RUN pip install --quiet --upgrade --no-index --find-links /wheels setuptools \
 && pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/quartermaster \
 && pip --python /opt/quartermaster/bin/python install --quiet --no-index --find-links /wheels quartermaster

FROM python:3.11.14-slim-bookworm

RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/quartermaster quartermaster
COPY --from=build /opt/quartermaster /opt/quartermaster
ENV PATH=/opt/quartermaster/bin:$PATH PYTHONUNBUFFERED=1 QM_HTTP_HOST=0.0.0.0 QM_HTTP_PORT=8080
# Where the default SQLite file would be: mount a volume here to keep it.
WORKDIR /var/lib/quartermaster
USER 10001
EXPOSE 8080
# Whether the process lives. Whether it works, /readyz says.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['QM_HTTP_PORT']}/healthz\", timeout=4)"]
ENTRYPOINT ["quartermaster"]
CMD ["run"]
