#!/bin/sh
# Serves the fixture store as a mirror of Docker Hub and runs a model from it, by the same code path
# as on the internet. On a terminal it then stays in the chat. Several may run at once.
set -eu
bin=$1
folder=$(cd "$2" && pwd)
# the smallest of models answers to the point only where it is told how, whichever runtime computes,
# and takes the likeliest token
question='What is the capital of France? Answer in one sentence.'

# of this run alone: what an earlier one left says nothing about this one
work=$(mktemp -d "$folder/run.XXXXXX")
mkfifo "$work/alive"
exec 3<>"$work/alive"

# the server ends with this process, however that ends: `kill -9` too closes descriptor 3, and then
# the read below returns
(
    (
        MODELRUNNER_HOME="$folder/registry" "$bin/modelrunner" share --port 0 --quiet \
            >"$work/address" 2>"$work/log" &
        # only now: a signal that is ignored here is ignored by what is started here
        trap '' INT TERM HUP
        echo $! >"$work/pid"
        wait $! || true
        : >"$work/ended"
    ) 3>&- &
    trap '' INT TERM HUP
    { exec 3>&-; read -r _ || true; } <"$work/alive"
    until [ -s "$work/pid" ]; do sleep 0.1; done
    kill "$(cat "$work/pid")" || true
    wait
    rm -rf "$work"
) >/dev/null 2>&1 &
keeper=$!

trap 'exec 3>&-; wait "$keeper" || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

tries=0
until grep -q . "$work/address" 2>/dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 600 ] || [ -e "$work/ended" ]; then
        echo "error: the local registry did not start:" >&2
        cat "$work/log" >&2
        exit 1
    fi
    sleep 0.1
done

MODELRUNNER_HOME="$folder/home"
MODELRUNNER_MIRRORS="docker.io=$(cat "$work/address")"
export MODELRUNNER_HOME MODELRUNNER_MIRRORS

echo "> $question"
"$bin/modelrunner" run ai/smollm2:135M-Q4_1 "$question" --temperature 0 </dev/null 3>&-
if [ -t 0 ] && [ -t 1 ]; then
    "$bin/modelrunner" run ai/smollm2:135M-Q4_1 3>&-
fi
