#!/bin/sh
# Make the virtual environment: venv.sh PYTHON FOLDER.
# On Debian as root it installs what Python lacks for that; else what is missing is one line on stderr and exit code 1.
set -eu
python=$1
folder=$2

fail() {
    echo "setup: $1" >&2
    exit 1
}

# install PACKAGE...
install() {
    command -v apt-get >/dev/null || fail "$python has no venv module, and there is no apt-get to install it"
    [ "$(id -u)" = 0 ] || fail "not installed: $*; as root: apt-get install $*"
    echo "setup: installing $*" >&2
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    if ! { apt-get -oDPkg::Lock::Timeout=300 -qq update &&
           apt-get -oDPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "$@"; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        fail "apt-get install $* failed"
    fi
    rm "$log"
}

if ! command -v "$python" >/dev/null; then
    [ "$python" = python3 ] || fail "$python is not installed"
    install python3 python3-venv
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not run"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or later is needed, $python is $version; name another one: make setup PYTHON=python3.13"
"$python" -c 'import ensurepip, venv' 2>/dev/null || install "python$version-venv"
"$python" -m venv --clear "$folder"
