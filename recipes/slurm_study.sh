#!/usr/bin/env bash
# A study's runs dealt out over an array of jobs, one GPU each:
#   sbatch --array=0-15 recipes/slurm_study.sh --config=configs/study.py --workdir=runs/study
# Shard i of n makes every n-th run; whichever shard ends last writes the comparison. A shard that was stopped is started
# again with the same number (sbatch --array=3 ...; SHARDS=16) and goes on.
#SBATCH --job-name=kneefair-study
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@180
set -uo pipefail

export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/kneefair_jax}
# Since SLURM 22.05 srun does not take it over from sbatch.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
shards=${SHARDS:-$SLURM_ARRAY_TASK_COUNT}

srun .venv/bin/python launch.py --mode=study --shard="$SLURM_ARRAY_TASK_ID/$shards" "$@"
status=$?
# 75: told to stop (time limit, preemption), it has saved itself. 2: a person has to correct something. All else (1, 134,
# 137: a full disk, a dead process) may go better the next time, but not after ten restarts of whatever kind.
if [ $status -eq 75 ] || { [ $status -ne 0 ] && [ $status -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; }; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit $status
