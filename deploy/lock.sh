#!/bin/sh
# Writes deploy/requirements.lock: of requirements.lock, the part that the image needs. No Envoy, no test tool.
# Run it after `make lock`, whose uv it uses.
set -eu
cd "$(dirname "$0")/.."
uv="${UV:-.venv/lock/bin/uv}"
"$uv" pip compile pyproject.toml --constraints requirements.lock --python-version 3.11 --python-platform linux \
  --extra server --extra presto --extra presto-trino --extra spark --extra knowledge --extra airflow --extra extauthz --extra xds --extra spire --extra cli --generate-hashes --no-annotate \
  --no-emit-index-url --no-emit-find-links --custom-compile-command deploy/lock.sh --quiet -o deploy/requirements.lock
