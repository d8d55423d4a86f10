#!/usr/bin/env bash
# Installs what Celery's workers need and no wheel carries; on Debian and Ubuntu, as root.
# Nothing is started: `moodlake up --workers 2` runs both by itself.
set -euo pipefail

missing=()
command -v redis-server > /dev/null || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/postgres' > /dev/null || missing+=(postgresql)
((${#missing[@]})) || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "not here: ${missing[*]}; root can install them, where there is apt-get" >&2
    exit 1
fi

# The packages start their services unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" > /dev/null
# Nor shall they start with the machine.
if [ -d /run/systemd/system ]; then systemctl --quiet disable "${missing[@]}"; fi
