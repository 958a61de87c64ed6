#!/usr/bin/env bash
# A Cloud TPU slice: the same command on every host, which find each other by themselves.
#   TPU=my-slice ZONE=us-central2-b recipes/cloud_tpu.sh --config=... --workdir=/mnt/shared/runs/mine
# --workdir and the data must be on storage that all hosts mount under the same path (Filestore, or a bucket by gcsfuse).
set -euo pipefail

on_every_host() {
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

printf -v flags ' %q' "$@"
on_every_host "test -d kneefair_jax || git clone ${REPOSITORY:?address of this repository} kneefair_jax
    cd kneefair_jax && { test -d .venv || python3.12 -m venv .venv; } && .venv/bin/pip install -q -c constraints.txt -e '.[tpu]'"
on_every_host "cd kneefair_jax && .venv/bin/python launch.py --distributed$flags"
