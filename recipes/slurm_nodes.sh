#!/usr/bin/env bash
# Several nodes share one run: sbatch --nodes=4 recipes/slurm_nodes.sh --config=... --workdir=...
# A process for each GPU: JAX finds the processes by SLURM's variables and gives each the GPU of its local number.
# All nodes must see the code, the data and --workdir under the same path.
#SBATCH --job-name=kneefair
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@180
set -uo pipefail

export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/kneefair_jax}
# Since SLURM 22.05 srun does not take it over from sbatch.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# The highest status of all counts. When a process dies, JAX ends the others (its heartbeats take 100 s to tell); to kill
# them at once would hide a 2 behind 137.
srun --kill-on-bad-exit=0 .venv/bin/python launch.py --distributed "$@"
status=$?
# 75: told to stop (time limit, preemption), it has saved itself. 2: a person has to correct something. All else (1, 134,
# 137: a full disk, a dead process) may go better the next time, but not after ten restarts of whatever kind.
if [ $status -eq 75 ] || { [ $status -ne 0 ] && [ $status -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
