#!/usr/bin/env bash
# One node with 8 GPUs: sbatch recipes/slurm_node.sh --config=configs/oai.py --workdir=runs/oai --config.data.root=...
# One process sees all GPUs of the node, so nothing has to be connected.
#SBATCH --job-name=kneefair
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@180
set -uo pipefail

# The next job of this kind need not compile the same steps again.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/kneefair_jax}

srun .venv/bin/python launch.py "$@"
status=$?
# Told to stop (time limit, preemption), a run saves itself and says so by this status: start it again.
if [ $status -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
