# Two stages: build a wheel and its environment, then run it as nobody with nothing else inside.
# Written to be plain; the same steps are proved in a fresh virtual environment by the tests
# (no container engine was at hand where this was written, so the image itself was not run).
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt constraints-hashes.txt README.md LICENSE NOTICE ./
COPY api api
COPY app app
COPY models models
COPY imaging imaging
# Every package, the build tool included, is a file that was pinned by its SHA-256. Extras by name:
#   --build-arg 'EXTRAS=postgres dask s3'
# The image serves and works; torch, for training, is not in it.
ARG EXTRAS=
RUN python -m venv /opt/sonodose && pip install --no-cache-dir uv==0.13.9
ENV VIRTUAL_ENV=/opt/sonodose UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
RUN uv pip install --require-hashes --no-build -c constraints-hashes.txt \
      $(for one in $EXTRAS; do printf -- '--extra %s ' "$one"; done) -r pyproject.toml \
 && uv pip install --no-deps --build-constraints constraints-hashes.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /data --create-home sonodose
COPY --from=build /opt/sonodose /opt/sonodose
USER sonodose
WORKDIR /data
ENV PATH=/opt/sonodose/bin:$PATH SONODOSE_DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Outside loopback the service refuses to start without access control: give SONODOSE_ settings
# for API keys (docs/settings.md).
CMD ["sonodose", "serve", "--host", "0.0.0.0", "--port", "8000"]
