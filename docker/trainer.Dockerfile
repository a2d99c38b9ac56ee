# TensorFlow, the thin client and augtrain; nothing of the server. From the root of the repository:
#
#     docker build -f docker/trainer.Dockerfile -t augserver-trainer .
#     docker build -f docker/trainer.Dockerfile -t augserver-trainer --build-arg "TENSORFLOW=tensorflow[and-cuda]" .      # on GPUs
#
# BASE, secret "pip": as in server-cpu.Dockerfile; nothing is compiled, and so only Debian's own Python needs a package: python3-venv.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG BUILD_PACKAGES=""
RUN test -z "${BUILD_PACKAGES}" || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends ${BUILD_PACKAGES}; }
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1
COPY docker/pins /src/docker/pins
ARG TENSORFLOW=tensorflow
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /build && /build/bin/pip install --no-deps -r /src/docker/pins/build.txt && \
    python3 -m venv --without-pip /opt/augtrain && \
    /build/bin/pip --python /opt/augtrain/bin/python install -r /src/docker/pins/trainer.txt "${TENSORFLOW}"
COPY client /src/client
COPY docker/trim.sh /src/docker/trim.sh
RUN PATH="/build/bin:$PATH" pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src/client && \
    /build/bin/pip --python /opt/augtrain/bin/python install --no-deps --no-index /wheels/*.whl && \
    sh /src/docker/trim.sh /opt/augtrain

FROM ${BASE} AS trainer
LABEL org.opencontainers.image.title="augserver-trainer" \
      org.opencontainers.image.description="TensorFlow and augtrain, fed by augserver" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# Keras and matplotlib keep their settings in folders of their own; the root is read-only, and so they get one of the temporary files.
ENV PATH=/opt/augtrain/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 KERAS_HOME=/tmp/keras MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /opt/augtrain /opt/augtrain
USER 10001:10001
WORKDIR /training
STOPSIGNAL SIGTERM
ENTRYPOINT ["augtrain"]
CMD ["--help"]
