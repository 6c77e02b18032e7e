#!/bin/sh
# Runs docker compose on deploy/compose.yaml, or says what is missing for that.
#
#   tools/compose.sh up --detach
#
# COMPOSE chooses another one, such as "podman compose".
set -eu
cd "$(dirname "$0")/.."

compose=${COMPOSE:-docker compose}
program=${compose%% *}

missing() {
    echo "compose: $1; without containers everything runs by \`make run\`." >&2
    exit 1
}

command -v "$program" >/dev/null 2>&1 || missing "$program is not installed: install Docker with its compose plugin"
$compose version >/dev/null 2>&1 || missing "\`$compose\` does not work: install the compose plugin"
"$program" info >/dev/null 2>&1 || missing "$program does not reach its service: start it, or let your user use it"
exec $compose --file deploy/compose.yaml "$@"
