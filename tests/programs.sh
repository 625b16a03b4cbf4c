#!/bin/sh
# Install the programs that some tests ask what they see. On Debian as root; elsewhere, and where that fails, this says
# so and the tests concerned are skipped. Never: an exit code other than 0.
set -u
lock_wait=300  # s for another apt (an unattended upgrade) to finish

missing=
for program in mbpoll nmap tshark; do  # the packages are called the same
    command -v $program >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "test: not installed, their tests are skipped:$missing" >&2
    exit 0
fi
echo "test: apt-get install$missing" >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086  # a list
if ! { apt-get -oDPkg::Lock::Timeout=$lock_wait -q update &&
       apt-get -oDPkg::Lock::Timeout=$lock_wait -q -y --no-install-recommends install $missing
     } >"$log" 2>&1 </dev/null; then
    tail -n 3 "$log" >&2
    echo "test: apt-get install failed, their tests are skipped:$missing" >&2
fi
rm "$log"
