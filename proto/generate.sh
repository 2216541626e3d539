#!/bin/sh
# Compiles proto/*.proto beside their users: proto/ext_authz.proto to extauthz/wire/, proto/discovery.proto to
# xds/wire/. A file is compiled under its final path, so that its module is registered, and imports others,
# by the package that it lives in. Run it from anywhere; PYTHON names the interpreter that has grpcio-tools.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"

compile() { # source, package folder
    [ -f "proto/$1.proto" ] || return 0
    root="$(mktemp -d)"
    mkdir -p "$root/$2" "$2"
    cp "proto/$1.proto" "$root/$2/$1.proto"
    "$python" -m grpc_tools.protoc --proto_path="$root" --python_out=. --pyi_out=. "$2/$1.proto"
    rm -r "$root"
    [ -f "$2/__init__.py" ] || printf '"""Messages compiled by proto/generate.sh; not written by hand."""\n' >"$2/__init__.py"
}

compile ext_authz extauthz/wire
compile discovery xds/wire
