#!/bin/sh
# Makes .venv what `make` needs, and does nothing when it already is.
#
#   tools/setup.sh run      what the application needs
#   tools/setup.sh dev      the same and what tests it
#   tools/setup.sh python   prints the Python that would be used
#
# PYTHON chooses the interpreter, UV the uv to use; an empty UV means pip.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
uv=${UV-$(command -v uv || true)}

find_python() {
    # By running each one: version managers put shims on the path that stand for nothing until they are switched on.
    # uv makes environments by itself; without it, venv must be able to put pip into a new one.
    need="import sys; sys.exit(sys.version_info < (3, 11))"
    [ -n "$uv" ] || need="import venv, ensurepip; $need"
    recent=
    for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$name" -c "$need" >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
        if [ -z "$recent" ] && "$name" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then
            recent=$name
        fi
    done
    if [ -n "$recent" ]; then
        echo "setup: $recent cannot make virtual environments (no ensurepip): install your system's venv package" \
            "(on Debian and Ubuntu python3-venv) or uv, and run make again." >&2
    else
        echo "setup: no Python 3.11 or newer found (tried: ${PYTHON:-python3.13 python3.12 python3.11 python3});" \
            "install one, or name it with PYTHON=/path/to/python." >&2
    fi
    return 1
}

# Of content, not of dates: a checkout changes the dates of files that it does not change. The folder counts too, since
# an environment that was moved has the old one's path in its scripts.
key() {
    { pwd; cat tools/setup.sh pyproject.toml apps/order_saga/pyproject.toml "$@"; } | cksum
}

fresh() { # fresh STAMP KEY
    [ -x $venv/bin/python ] && [ -f "$venv/$1" ] && [ "$(cat "$venv/$1")" = "$2" ]
}

ready() {
    fresh .stamp-dev "$dev_key" || { [ "$1" = run ] && fresh .stamp-run "$run_key"; }
}

usable() {
    [ -x $venv/bin/python ] && $venv/bin/python -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null &&
        { [ -n "$uv" ] || $venv/bin/python -m pip --version >/dev/null 2>&1; } &&
        [ "$(cat $venv/.stamp-path 2>/dev/null)" = "$(pwd)" ]
}

create() {
    python=$(find_python) || exit 1
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --clear --no-python-downloads --python "$python" $venv
    else
        "$python" -m venv --clear $venv
    fi
    pwd >$venv/.stamp-path
}

install() {
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --python $venv/bin/python "$@"
    else
        $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input "$@"
    fi
}

lock() {
    # Two makes at once would install over one another; the second waits and then finds everything done.
    if command -v flock >/dev/null 2>&1; then
        exec 9>.setup.lock
        flock 9
        return
    fi
    until mkdir .setup.lock.d 2>/dev/null; do
        # The holder may have been killed.
        if pid=$(cat .setup.lock.d/pid 2>/dev/null) && ! kill -0 "$pid" 2>/dev/null; then
            rm -rf .setup.lock.d
        else
            sleep 1
        fi
    done
    echo $$ >.setup.lock.d/pid
    trap 'rm -rf .setup.lock.d' EXIT
    trap 'exit 130' INT TERM HUP
}

what=${1:?run, dev or python}
if [ "$what" = python ]; then
    find_python
    exit
fi

run_key=$(key requirements/run.txt)
dev_key=$(key requirements/run.txt requirements/dev.txt)
if ready "$what"; then exit; fi
lock
if ready "$what"; then exit; fi

echo "setup: preparing $venv for $what, once; up to a minute" >&2
rm -f $venv/.stamp-run $venv/.stamp-dev
usable || create
install --require-hashes -r "requirements/$what.txt"
# The build backend is among the pinned packages, so nothing is fetched here.
install --no-deps --no-build-isolation -e . -e apps/order_saga
eval "echo \"\$${what}_key\"" >"$venv/.stamp-$what"
