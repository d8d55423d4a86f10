# Airflow with moodlake's DAGs: one image for all components, each with its own command.
FROM python:3.11.14-slim-bookworm AS build

WORKDIR /opt/moodlake
COPY . .
RUN python -m venv --without-pip /opt/venv
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install -c constraints.txt -e '.[schedule]'

FROM python:3.11.14-slim-bookworm

ENV PATH=/opt/venv/bin:$PATH AIRFLOW_HOME=/opt/airflow
ENV AIRFLOW__CORE__DAGS_FOLDER=/opt/moodlake/dags
RUN useradd --uid 1000 --create-home airflow && install -d -o airflow "$AIRFLOW_HOME"
WORKDIR /opt/moodlake
COPY --from=build /opt/venv /opt/venv
# Runs record the digest of dvc.lock.
COPY dvc.lock ./
COPY dags dags
COPY infra/__init__.py infra/__init__.py
COPY infra/cli infra/cli
COPY moodlake moodlake
# `git rev-parse HEAD`, for the table of runs.
ARG GIT_COMMIT=""
ENV MOODLAKE_GIT_COMMIT=$GIT_COMMIT
USER 1000:1000
CMD ["airflow", "info"]
