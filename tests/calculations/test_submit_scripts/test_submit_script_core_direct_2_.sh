#!/bin/bash
exec > _scheduler-stdout.txt
exec 2> _scheduler-stderr.txt


trap : TERM INT XCPU USR1

'crysgen-worker' 'train' 'job.json'  > 'crysgen.log' 2>&1
