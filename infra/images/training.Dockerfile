# Training: DVC and PyTorch, on CPUs. For CUDA: --build-arg TORCH_INDEX=https://pypi.org/simple
FROM python:3.11.14-slim-bookworm AS build

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/moodlake
COPY . .
RUN python -m venv --without-pip /opt/venv
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --extra-index-url "$TORCH_INDEX" \
        -c constraints.txt -e '.[train]'

FROM python:3.11.14-slim-bookworm

# NVIDIA's container toolkit provides only the machine's driver; the CUDA libraries are in wheels.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PATH=/opt/venv/bin:$PATH
# DVC writes to the code's folder.
RUN useradd --uid 1000 --create-home moodlake && install -d -o moodlake /opt/moodlake
WORKDIR /opt/moodlake
COPY --from=build /opt/venv /opt/venv
COPY --chown=1000:1000 .dvc .dvc
COPY --chown=1000:1000 .dvcignore dvc.lock dvc.yaml params.yaml ./
COPY --chown=1000:1000 handlers handlers
COPY --chown=1000:1000 infra/__init__.py infra/__init__.py
COPY --chown=1000:1000 infra/cli infra/cli
COPY --chown=1000:1000 model_store model_store
COPY --chown=1000:1000 moodlake moodlake
COPY --chown=1000:1000 training training
USER 1000:1000
# The image contains no Git repository.
RUN dvc config --local core.no_scm true
CMD ["dvc", "repro"]
