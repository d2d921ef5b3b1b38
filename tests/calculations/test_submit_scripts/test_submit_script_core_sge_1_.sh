#!/bin/bash
#$ -cwd
#$ -S /bin/bash
#$ -r no
#$ -m n
#$ -N aiida-PK
#$ -V
#$ -o _scheduler-stdout.txt
#$ -e _scheduler-stderr.txt
#$ -q gpu
#$ -pe smp 4
#$ -l h_rt=01:00:00
#$ -l gpu=1

trap : TERM INT XCPU USR1

'crysgen-worker' 'train' 'job.json'  > 'crysgen.log' 2>&1
