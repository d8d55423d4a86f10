#!/usr/bin/env bash
# Installs Redis and PostgreSQL for Celery workers, on Debian and Ubuntu, as root.
# Nothing is started: `moodlake up --workers 2` runs both itself.
set -euo pipefail

missing=()
command -v redis-server > /dev/null || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/postgres' > /dev/null || missing+=(postgresql)
((${#missing[@]})) || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "missing: ${missing[*]}; run this script as root on a machine with apt-get" >&2
    exit 1
fi

# This file keeps the packages from starting their services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" > /dev/null
# Do not start them at boot either.
if [ -d /run/systemd/system ]; then systemctl --quiet disable "${missing[@]}"; fi
