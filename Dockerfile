# Serve the built-in model, a package folder, or a registered model:
#   docker build -t speech-emotion .
#   docker run -p 8080:8080 speech-emotion
#   docker run -p 8080:8080 -v ./models/tess/package:/model:ro speech-emotion --model /model
#   docker build -t speech-emotion --build-arg EXTRAS=mlflow .     # with MLflow, for models:/...
#   docker build -t speech-emotion --build-arg EXTRAS=parquet .    # with pyarrow, for --log-predictions

FROM python:3.13.11-slim-bookworm AS build
WORKDIR /build
ARG EXTRAS=""
COPY requirements.lock pyproject.toml README.md LICENSE THIRD_PARTY_LICENSES.md ./
COPY scripts/serving_requirements.py scripts/
COPY src src
RUN python scripts/serving_requirements.py $EXTRAS > requirements.txt
RUN python -m venv /opt/speech-emotion
RUN /opt/speech-emotion/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.txt
RUN /opt/speech-emotion/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .
RUN /opt/speech-emotion/bin/python -m pip uninstall --yes setuptools pip

FROM python:3.13.11-slim-bookworm
COPY --from=build /opt/speech-emotion /opt/speech-emotion
RUN useradd --system --uid 10001 --home-dir /var/cache/speech-emotion --create-home serve
ENV PATH=/opt/speech-emotion/bin:$PATH XDG_CACHE_HOME=/var/cache/speech-emotion MLFLOW_DISABLE_TELEMETRY=true \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /var/cache/speech-emotion
USER 10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/ping', timeout=2)"
ENTRYPOINT ["speech-emotion", "serve", "--host", "0.0.0.0", "--port", "8080"]
