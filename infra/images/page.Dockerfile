# The web app. The environment configures its buckets, tables and model server.
FROM python:3.11.14-slim-bookworm AS build

WORKDIR /opt/moodlake
COPY . .
RUN python -m venv --without-pip /opt/venv
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install -c constraints.txt -e '.[page]'

FROM python:3.11.14-slim-bookworm

ENV PATH=/opt/venv/bin:$PATH
RUN useradd --uid 1000 --create-home moodlake && install -d -o moodlake /var/lib/moodlake
WORKDIR /opt/moodlake
COPY --from=build /opt/venv /opt/venv
# The released model's card, without the model.
COPY model_store/MODEL_CARD.md model_store/figures.png model_store/
COPY app app
COPY infra/__init__.py infra/__init__.py
COPY infra/cli infra/cli
COPY infra/local infra/local
COPY moodlake moodlake
USER 1000:1000
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health')"]
CMD ["moodlake", "app", "--host", "0.0.0.0", "--state", "/var/lib/moodlake"]
