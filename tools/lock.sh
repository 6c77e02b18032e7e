#!/bin/sh
# Pins the requirement files: names, versions and hashes. Flags are passed on, as in `tools/lock.sh --upgrade`.
#
# No file here may say where a package comes from: that is the business of whoever installs it. An index or a folder of
# wheels set in the environment would slip in, hence the check at the end.
set -eu
cd "$(dirname "$0")/.."

uv=${UV:-$(command -v uv || true)}
if [ -z "$uv" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    "$(tools/setup.sh python)" -m venv "$scratch"
    "$scratch/bin/pip" install --quiet uv
    uv=$scratch/bin/uv
fi

compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
        --no-header --no-annotate --no-emit-index-url --no-emit-package unwind --no-emit-package order-saga "$@"
}

compile "$@" apps/order_saga/pyproject.toml requirements/build.in -o requirements/run.txt
# Constrained by the first file: `make test` adds to what `make run` installed, and changes nothing of it.
compile "$@" -c requirements/run.txt --extra dev pyproject.toml requirements/build.in -o requirements/dev.txt

if grep -nE '://|file:|^-|/' requirements/*.txt; then
    echo "lock: a place got into the requirement files, see above" >&2
    exit 1
fi
