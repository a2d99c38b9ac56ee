# augserver on a GPU. From the root of the repository:
#
#     docker build -f docker/server-cuda.Dockerfile -t augserver-cuda .
#     docker run --gpus 1 ...
#
# The kernels are compiled for every architecture from sm_75 on, so that the image needs no CUDA library: NVIDIA's container toolkit brings
# the driver. Scans are read by the image of server-cpu.Dockerfile.
#
# BASE, BUILD_PACKAGES, secret "pip": as in server-cpu.Dockerfile.
# CUDA, CUDA_HOME   an image with the CUDA toolkit, 12.8 or newer, and where in it that is; taken from while compiling.
ARG BASE=python:3.11-slim-bookworm
ARG CUDA=nvidia/cuda:13.0.1-devel-ubuntu24.04

FROM ${CUDA} AS cuda

FROM ${BASE} AS build
ARG BUILD_PACKAGES="g++"
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends ${BUILD_PACKAGES}
ARG CUDA_HOME=/usr/local/cuda-13.0
COPY --from=cuda ${CUDA_HOME} /usr/local/cuda
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1
COPY docker/pins /src/docker/pins
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /build && /build/bin/pip install --no-deps -r /src/docker/pins/build.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/augserver && \
    /build/bin/pip --python /opt/augserver/bin/python install --no-deps -r /src/docker/pins/server.txt
COPY tests/cuda_fake/build_pycuda.sh /src/
# pycuda is linked with a driver made of names alone: the real one is there when the container runs.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    CUDA_HOME=/usr/local/cuda bash /src/build_pycuda.sh /build/bin/python /wheels/pycuda && \
    /build/bin/pip --python /opt/augserver/bin/python install --no-deps --find-links /wheels/pycuda -r /src/docker/pins/cuda.txt
COPY . /src
RUN PATH="/build/bin:$PATH" CUDA_HOME=/usr/local/cuda \
    pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels /src /src/client && \
    /build/bin/pip --python /opt/augserver/bin/python install --no-deps --no-index /wheels/*.whl && \
    test -n "$(find /opt/augserver -name kernel.fatbin)" && \
    sh /src/docker/trim.sh /opt/augserver && \
    cp /src/docker/health.py /opt/augserver/health.py

FROM ${BASE} AS server
LABEL org.opencontainers.image.title="augserver-cuda" \
      org.opencontainers.image.description="Augments 3-D CT and MR volumes in one fused CUDA kernel and streams batches to training loops" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
# Of the driver the container gets its computing part and nvidia-smi; which GPUs is said when it is started.
ENV PATH=/opt/augserver/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /opt/augserver /opt/augserver
USER 10001:10001
WORKDIR /
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 CMD ["python", "/opt/augserver/health.py", "127.0.0.1:50051"]
ENTRYPOINT ["augserver"]
CMD ["serve", "/dataset", "--backend", "cuda"]
