#!/bin/sh
# Make the virtual environment: venv.sh PYTHON FOLDER.
# On Debian as root it installs what Python lacks (venv; headers, which make the emulator three times as fast);
# else a missing venv is one line on stderr and exit code 1, and missing headers are none.
set -eu
python=$1
folder=$2
lock_wait=300  # s for another apt (an unattended upgrade) to finish

fail() {
    echo "setup: $1" >&2
    exit 1
}

# install PACKAGE...
install() {
    command -v apt-get >/dev/null || fail "not installed: $*"
    [ "$(id -u)" = 0 ] || fail "not installed: $*; as root: apt-get install $*"
    echo "setup: apt-get install $*" >&2
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if ! { apt-get -oDPkg::Lock::Timeout=$lock_wait -q update &&
           apt-get -oDPkg::Lock::Timeout=$lock_wait -q -y --no-install-recommends install "$@"
         } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        fail "apt-get install $* failed"
    fi
    rm "$log"
}

if ! command -v "$python" >/dev/null; then
    [ "$python" = python3 ] || fail "$python is not installed"
    install python3 python3-venv python3-dev
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not run"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or later is needed, $python is $version; name another one: make setup PYTHON=python3.13"

missing=
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="python$version-venv"
if [ "$(id -u)" = 0 ] && dpkg -S "$(readlink -f "$(command -v "$python")")" >/dev/null 2>&1; then
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    [ -e "$headers/Python.h" ] || missing="$missing python$version-dev"
fi
# shellcheck disable=SC2086  # a list
[ -z "$missing" ] || install $missing
"$python" -m venv --clear "$folder"
