#!/bin/bash
#PBS -r n
#PBS -m n
#PBS -N aiida-PK
#PBS -V
#PBS -o _scheduler-stdout.txt
#PBS -e _scheduler-stderr.txt
#PBS -q gpu
#PBS -l walltime=01:00:00
#PBS -l select=1:mpiprocs=1:ncpus=4:ngpus=2
cd "$PBS_O_WORKDIR"


trap : TERM INT XCPU USR1

'crysgen-worker' 'train' 'job.json'  > 'crysgen.log' 2>&1
