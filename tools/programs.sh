#!/bin/sh
# Makes sure that programs which only tests need are there, and does nothing when they are.
#
#   tools/programs.sh chromium     installed with apt, as root on Debian and its kin
#   tools/programs.sh prometheus   and promtool: unpacked from Debian's package, nothing is installed and nothing started
#
# Those on PATH are used; CHROMIUM names a browser of one's own.
set -eu
cd "$(dirname "$0")/.."

programs=.venv/programs

on_path() {
    for name in "$@"; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

missing() { # missing WHAT HOW
    echo "programs: there is no $1: $2" >&2
    exit 1
}

# Lists of packages may be old, or not there at all; only root can fetch them. The old ones may do.
refresh() {
    if [ "$(id -u)" = 0 ]; then apt-get -qq update || true; fi
}

have_chromium() {
    if [ -n "${CHROMIUM:-}" ] || on_path chromium chromium-browser google-chrome; then return; fi
    if ! on_path apt-get || [ "$(id -u)" != 0 ]; then
        missing Chromium "install it (on Debian: apt-get install chromium), or name a browser with CHROMIUM=/path/to/it"
    fi
    echo "programs: installing Chromium, once" >&2
    refresh
    # The fonts: the tests' pages have names in Cyrillic and emoji.
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
        chromium fonts-dejavu-core fonts-noto-color-emoji >/dev/null ||
        missing Chromium "apt-get cannot install it, see above"
}

have_prometheus() {
    if on_path prometheus && on_path promtool; then return; fi
    if [ -x $programs/usr/bin/prometheus ] && [ -x $programs/usr/bin/promtool ]; then return; fi
    if ! on_path apt-get || ! on_path dpkg-deb; then
        missing Prometheus "put prometheus and promtool on PATH, from prometheus.io/download"
    fi
    echo "programs: fetching Prometheus, once" >&2
    rm -rf $programs
    mkdir -p $programs
    refresh
    # Root downloads as root: apt's own user cannot write here.
    (cd $programs && apt-get -qq -o APT::Sandbox::User=root download prometheus) ||
        missing Prometheus "apt-get cannot fetch it; put prometheus and promtool on PATH"
    dpkg-deb --extract $programs/prometheus_*.deb $programs
    rm $programs/prometheus_*.deb
}

case ${1:-} in
chromium | prometheus) "have_$1" ;;
*) missing "program named '${1:-}' here" "chromium or prometheus" ;;
esac
