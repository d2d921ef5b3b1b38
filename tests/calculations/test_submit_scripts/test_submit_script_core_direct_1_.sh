#!/bin/bash
exec > _scheduler-stdout.txt
exec 2> _scheduler-stderr.txt


'crysgen-worker' 'train' 'job.json'  > 'crysgen.log' 2>&1
