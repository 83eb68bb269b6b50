# The code location: gRPC server, run pods and step pods all use this image.
#
#     docker build --build-arg REVISION=$(git rev-parse HEAD) -t llmops-assets .
#     docker run --init -p 4000:4000 -e LLMOPS_SETTINGS=/settings.yaml -v ./settings.yaml:/settings.yaml:ro llmops-assets
#
# A private package index with credentials: --secret id=pip-conf,src=$HOME/.config/pip/pip.conf (never in a layer).
# GPU nodes: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130. An empty TORCH_INDEX uses pip's own index.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=kubernetes,aws,postgres,metrics,notify
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# Dependencies first, with empty packages: code edits then keep these layers of several GB cached.
COPY pyproject.toml constraints.txt LICENSE ./
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --constraint constraints.txt torch
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    touch README.md && mkdir llmops_assets resources sensors \
    && pip install --constraint constraints.txt ".[${EXTRAS}]" && pip uninstall --yes llmops-assets

COPY README.md ./
COPY llmops_assets llmops_assets
COPY resources resources
COPY sensors sensors
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip-conf,target=/etc/pip.conf \
    pip install --no-deps .

FROM ${PYTHON_IMAGE}
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="llmops-assets" \
      org.opencontainers.image.description="Dagster code location for LLMOps CI/CD" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# No bubblewrap: most clusters refuse user namespaces in a pod. There the pod is the wall around a project's code: its
# tests and metrics run in the pod of their step, without the location's secrets in their environment, but beside its
# process. Give the pods of ci_report and of the evaluations nothing that a project must not reach.
# git fetches the projects, also over ssh; llama.cpp needs libgomp. Debian drops old versions from its mirrors, so a pin would break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git libgomp1 openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 llmops \
    && useradd --uid 10001 --gid 10001 --create-home llmops \
    && install --directory --owner=10001 --group=10001 /var/lib/llmops

COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LLMOPS_HOME=/var/lib/llmops \
    DAGSTER_DISABLE_TELEMETRY=yes \
    DVC_NO_ANALYTICS=1 \
    HF_HUB_DISABLE_TELEMETRY=1
WORKDIR /var/lib/llmops
# Numeric, because Kubernetes cannot verify that a user name is not root.
USER 10001:10001
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
# No entrypoint: Dagster's launchers set the command of run and step pods.
CMD ["dagster", "code-server", "start", "-h", "0.0.0.0", "-p", "4000", "-m", "llmops_assets.definitions"]
