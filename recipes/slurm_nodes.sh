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

# When one process dies the others cannot go on: end the step, and start the job again.
srun --kill-on-bad-exit=1 .venv/bin/python launch.py --distributed "$@"
status=$?
if [ $status -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
