# One image for every process of ours: `docker build -t driftline .`; the command says which one it is.
#
# The base image is pinned by version and by the digest of its index of platforms, so a build takes the same base everywhere
# and no security update by itself: docs/operations.md says how to move the pins.

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS builder

# Empty installs exactly requirements.lock, hashes checked: PyTorch is then the index's own build, with CUDA.
# `cpu` takes the same version of PyTorch from PyTorch's CPU index instead. The image is then several times smaller,
# and PyTorch alone is not checked against the lock (its CPU wheels have other hashes).
ARG TORCH_BACKEND=""

ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8 \
 && uv venv /opt/driftline
ENV VIRTUAL_ENV=/opt/driftline

WORKDIR /build
COPY pyproject.toml requirements.lock ./
# The lock is a constraint here, so that only what runs is installed and not the tools of development.
RUN --mount=type=cache,target=/root/.cache/uv \
    cp requirements.lock constraints.txt; \
    if [ -n "$TORCH_BACKEND" ]; then \
      awk '/^[a-z]/ {keep = !/^(torch|triton|nvidia-|cuda-)/} keep' requirements.lock > constraints.txt; \
      grep -o '^torch==[0-9.]*' requirements.lock >> constraints.txt; \
      export UV_TORCH_BACKEND="$TORCH_BACKEND"; \
    fi; \
    uv pip install --requirements pyproject.toml --constraints constraints.txt

COPY README.md LICENSE ./
COPY model model
COPY features features
COPY streaming streaming
COPY lab lab
COPY local local
COPY driftline driftline
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --no-deps .


FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3

RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin driftline \
 && install --directory --owner=driftline --group=driftline /var/lib/driftline/run /var/lib/driftline/cache
COPY --from=builder /opt/driftline /opt/driftline

ENV PATH=/opt/driftline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    DRIFTLINE_RUN_DIR=/var/lib/driftline/run \
    DRIFTLINE_CACHE_DIR=/var/lib/driftline/cache

USER 10001:10001
WORKDIR /var/lib/driftline
ENTRYPOINT ["driftline"]
CMD ["--help"]
