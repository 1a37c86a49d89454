#!/bin/bash
#SBATCH --job-name={{ name }}
#SBATCH --nodes={{ workers }}
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
# One worker on each node, with one accelerator; the run directory must be on a file system that all
# nodes see. What each worker needs (take one # away to ask for it):
##SBATCH --cpus-per-task=16
##SBATCH --gpus-per-node=1
# srun does not take it over by itself
if [ -n "$SLURM_CPUS_PER_TASK" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; fi
cat > "tfbig-$SLURM_JOB_ID.sh" <<'WORKER'
{{ script }}
WORKER
srun --kill-on-bad-exit=1 bash "tfbig-$SLURM_JOB_ID.sh"
code=$?
# Stopped in time, with a checkpoint: goes on later
if [ $code = 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $code
