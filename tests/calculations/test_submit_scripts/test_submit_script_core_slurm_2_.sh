#!/bin/bash
#SBATCH --no-requeue
#SBATCH --job-name="aiida-PK"
#SBATCH --get-user-env
#SBATCH --output=_scheduler-stdout.txt
#SBATCH --error=_scheduler-stderr.txt
#SBATCH --partition=gpu
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
#SBATCH --gpus-per-node=2

trap : TERM INT XCPU USR1

'crysgen-worker' 'train' 'job.json'  > 'crysgen.log' 2>&1
