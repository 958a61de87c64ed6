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
# Since SLURM 22.05 srun does not take it over from sbatch.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

srun .venv/bin/python launch.py "$@"
status=$?
# 75: told to stop (time limit, preemption), it has saved itself. 2: a person has to correct something. All else (1, 134,
# 137: a full disk, a dead process) may go better the next time, but not after ten restarts of whatever kind.
if [ $status -eq 75 ] || { [ $status -ne 0 ] && [ $status -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
