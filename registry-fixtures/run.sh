#!/bin/sh
# Serves the fixture store as a mirror of Docker Hub and runs a model from it, by the same code path
# as on the internet. On a terminal it then stays in the chat. Its server ends with it.
set -eu
bin=$1
folder=$(cd "$2" && pwd)

MODELRUNNER_HOME="$folder/registry" "$bin/modelrunner" share --port 0 --quiet \
    >"$folder/share.address" 2>"$folder/share.log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

tries=0
while [ ! -s "$folder/share.address" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "the local registry did not start:" >&2
        cat "$folder/share.log" >&2
        exit 1
    fi
    sleep 0.1
done

MODELRUNNER_HOME="$folder/home"
MODELRUNNER_MIRRORS="docker.io=$(cat "$folder/share.address")"
export MODELRUNNER_HOME MODELRUNNER_MIRRORS

"$bin/modelrunner" run ai/smollm2:135M-Q4_1 "What is the capital of France?" </dev/null
if [ -t 0 ] && [ -t 1 ]; then
    "$bin/modelrunner" run ai/smollm2:135M-Q4_1
fi
