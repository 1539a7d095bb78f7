# The service as a container, the same code as the function: for Cloud Run, Kubernetes or a laptop (docs/container.md).
#
#     docker compose up                                       # serves the folder .model-store at http://localhost:8080
#     docker build -t pointer . && docker run -p 8080:8080 -v "$PWD/.model-store:/models:ro" -e STATS_EVERY=0 pointer
#     gcloud run deploy pointer --source . --region us-central1 --service-account pointer-serving@PROJECT.iam.gserviceaccount.com \
#         --set-env-vars MODEL_STORE=gs://BUCKET/models --cpu 1 --memory 512Mi --concurrency 8 --allow-unauthenticated

# The digest of the index of all platforms, as public Dockerfiles give it (docs/container.md says what was not looked up).
# A newer one: docker buildx imagetools inspect python:3.11-slim-bookworm
ARG BASE=python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3
FROM ${BASE} AS service
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    FUNCTION_TARGET=predict PORT=8080 MODEL_STORE=/models
RUN useradd --no-create-home --uid 1000 pointer
WORKDIR /opt/pointer
# Apart, so that a change of the code does not install the requirements anew.
COPY functions/requirements.txt ./
RUN pip install -r requirements.txt
COPY functions/main.py functions/openapi.yaml ./
COPY functions/web web
COPY functions/classifier classifier
# The user may write nothing here, so that each start would compile it again.
RUN python -m compileall -q .
# A number: Kubernetes does not believe a name to be another than root's.
USER 1000:1000
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
# Not through a shell: SIGTERM reaches gunicorn, which lets requests end. Host, port and target are read from the environment.
CMD ["functions-framework"]
