#!/bin/bash
#BSUB -rn
#BSUB -J "aiida-PK"
#BSUB -o _scheduler-stdout.txt
#BSUB -e _scheduler-stderr.txt
#BSUB -q gpu
#BSUB -n 4
#BSUB -W 01:00
#BSUB -gpu "num=1"

if [ ! -z "$LSB_OUTDIR" ]
then
  cp -R "$LSB_OUTDIR"/* .
fi


trap : TERM INT XCPU USR1

'crysgen-worker' 'train' 'job.json'  > 'crysgen.log' 2>&1


if [ ! -z "$LSB_OUTDIR" ]
then
   cp -R * "$LSB_OUTDIR"
fi

