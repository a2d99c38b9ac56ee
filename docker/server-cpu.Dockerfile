# augserver on the CPU. From the root of the repository:
#
#     docker build -f docker/server-cpu.Dockerfile -t augserver .
#     docker build -f docker/server-cpu.Dockerfile -t augserver-ingest --target ingest .
#
# The first serves, labels and previews; the second reads scans into datasets too: SimpleITK weighs as much as everything else together.
#
# BASE            Python 3.11 or newer; both stages are made on it, so that the compiled parts fit.
# BUILD_PACKAGES  what the base lacks to compile; on Debian's own Python: "g++ python3-dev python3-venv".
# secret "pip"    a pip.conf, where packages come from an index of your own; nothing of it stays in an image:
#                 docker build --secret id=pip,src=$HOME/.config/pip/pip.conf ...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG BUILD_PACKAGES="g++"
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends ${BUILD_PACKAGES}
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1 PIP_NO_DEPS=1
COPY docker/pins /src/docker/pins
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /build && /build/bin/pip install -r /src/docker/pins/build.txt
# The venv of the image has no pip; that of the build installs into it. SimpleITK is apart: only the stage `ingest` takes it.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/augserver && \
    /build/bin/pip --python /opt/augserver/bin/python install -r /src/docker/pins/server.txt && \
    /build/bin/pip install --target /opt/augserver-ingest -r /src/docker/pins/ingest.txt
COPY . /src
RUN PATH="/build/bin:$PATH" pip wheel --no-index --no-build-isolation --wheel-dir /wheels /src /src/client && \
    /build/bin/pip --python /opt/augserver/bin/python install --no-index /wheels/*.whl && \
    sh /src/docker/trim.sh /opt/augserver /opt/augserver-ingest && \
    cp /src/docker/health.py /opt/augserver/health.py

FROM ${BASE} AS server
LABEL org.opencontainers.image.title="augserver" \
      org.opencontainers.image.description="Augments 3-D CT and MR volumes in one fused kernel and streams batches to training loops" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
ENV PATH=/opt/augserver/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/augserver /opt/augserver
USER 10001:10001
WORKDIR /
EXPOSE 50051
# SIGTERM: health says NOT_SERVING, batches in flight end, exit code 0.
STOPSIGNAL SIGTERM
# A large dataset on a network volume takes minutes to open. Over TLS the probe needs to know whom to trust: docker/README.md.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 CMD ["python", "/opt/augserver/health.py", "127.0.0.1:50051"]
ENTRYPOINT ["augserver"]
CMD ["serve", "/dataset", "--backend", "cpu"]

FROM server AS ingest
COPY --from=build /opt/augserver-ingest /opt/augserver-ingest
ENV PYTHONPATH=/opt/augserver-ingest
HEALTHCHECK NONE
CMD ["ingest", "--help"]

FROM server
