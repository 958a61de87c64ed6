#!/usr/bin/env bash
# A Cloud TPU slice: the same command on every host, which find each other by themselves.
#   TPU=my-slice ZONE=us-central2-b REPOSITORY=https://... recipes/cloud_tpu.sh --config=... --workdir=/mnt/shared/runs/mine
# The slice's --version is Google's for JAX: tpu-ubuntu2204-base (v4), v2-alpha-tpuv5-lite (v5e), v2-alpha-tpuv5 (v5p) or
# v2-alpha-tpuv6e (v6e). Their Python may be older than 3.12; uv brings one. COMMIT is this checkout's if it is not given.
# --workdir and the data must be on a file system that all hosts mount under the same path and that has locks (Filestore,
# another NFS); a bucket has none.
set -uo pipefail

commit=${COMMIT:-$(git rev-parse HEAD)}
trap 'exit 130' INT

on_every_host() {
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

on_every_host "set -e
    test -d kneefair_jax || git clone ${REPOSITORY:?address of this repository} kneefair_jax
    cd kneefair_jax
    git fetch origin
    git checkout --detach $commit
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --allow-existing --python 3.12 .venv
    python3 -m uv pip install --quiet --python .venv/bin/python --constraints constraints.txt --editable '.[tpu]'" || exit

printf -v flags ' %q' "$@"
failures=0
# 75: told to stop, it has saved itself. 2: a person has to correct something. All else may go better the next time, but
# not for ever. A slice that was taken away has to be made anew; the same command then goes on.
while
    on_every_host "cd kneefair_jax && .venv/bin/python launch.py --distributed$flags"
    status=$?
    [ $status -eq 75 ] || { [ $status -ne 0 ] && [ $status -ne 2 ] && [ $((failures += 1)) -le 10 ]; }
do
    sleep "${PAUSE:-30}"
done
exit $status
