#!/bin/sh
# Makes or repairs the virtual environment, once Python is known to be new enough:
#
#     sh registry-fixtures/environment.sh PYTHON ORIGIN VENV run|dev
#
# ORIGIN is make's `$(origin PYTHON)`: a PYTHON that the user named is used or refused; where it is
# the Makefile's default, the environment's own Python serves as well.
set -eu
python=$1 origin=$2 venv=$3 kind=$4
goal=${GOAL:-$kind}
needed='Python 3.11 or later'

fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 2
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if ! new_enough "$python"; then
    if [ "$origin" = file ] && new_enough "$venv/bin/python"; then
        python=$venv/bin/python
    elif version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null); then
        fail "modelrunner needs $needed, and $python is Python $version" \
            "name a newer one: make $goal PYTHON=python3.12"
    elif command -v "$python" >/dev/null 2>&1; then
        fail "$python does not start; modelrunner needs $needed" \
            "see what \`$python --version\` says, or name another one: make $goal PYTHON=python3.12"
    else
        fail "$python: command not found; modelrunner needs $needed" \
            "install Python, or name one: make $goal PYTHON=/path/to/python3.12"
    fi
fi

exec "$python" "$(dirname "$0")/environment.py" "$venv" "$kind"
