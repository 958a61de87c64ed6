#!/usr/bin/env bash
# Two processes of one machine share a run, as two hosts would; CPUs alone will do:
#   recipes/two_processes.sh --config=configs/quickstart.py --workdir=runs/two
# DEVICES is the number of (virtual) CPU devices of each.
set -uo pipefail

export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu} JAX_NUM_CPU_DEVICES=${DEVICES:-2}
python=${PYTHON:-.venv/bin/python}
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

start() {
    "$python" launch.py --coordinator="127.0.0.1:$port" --processes=2 --process="$1" "${@:2}" &
}
start 0 "$@"
first=$!
start 1 "$@"
second=$!
trap 'told=1; kill -TERM $first $second 2>/dev/null' TERM INT

# A signal ends `wait`, with a status of its own: wait again for that of the process.
status_of() {
    until
        told=
        wait "$1"
        status=$?
        [ -z "$told" ]
    do :; done
}
status_of $first
other=$status
status_of $second
exit $((other ? other : status))
