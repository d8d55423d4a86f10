# The model server: TorchServe behind nginx, on CPUs. See docs/cluster.md for how to build it.
FROM python:3.11.14-slim-bookworm AS build

# PyTorch for CPUs; the wheels on PyPI include several GB of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/moodlake
COPY . .
RUN python -m venv --without-pip /opt/venv
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --extra-index-url "$TORCH_INDEX" \
        -c constraints.txt -e '.[serve]'

FROM python:3.11.14-slim-bookworm

ENV PATH=/opt/venv/bin:$PATH MOODLAKE_STATE=/var/lib/moodlake
RUN useradd --uid 1000 --create-home moodlake && install -d -o moodlake "$MOODLAKE_STATE"
WORKDIR /opt/moodlake
COPY --from=build /opt/venv /opt/venv
# Without the weights for training.
COPY model_store/emotions.mar model_store/config.properties model_store/log4j2.xml \
    model_store/metrics.yaml model_store/
COPY handlers handlers
COPY infra/__init__.py infra/__init__.py
COPY infra/cli infra/cli
COPY infra/local infra/local
COPY infra/nginx infra/nginx
COPY moodlake moodlake
# The only writable paths. Fargate gives volumes to the user who owns the paths here.
VOLUME ["/var/lib/moodlake", "/tmp"]
USER 1000:1000
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=12s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/ready')"]
CMD ["moodlake", "serve", "--host", "0.0.0.0", "--port", "8080"]
