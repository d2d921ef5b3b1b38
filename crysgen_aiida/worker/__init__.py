"""The door: the program that runs on the compute node. Files in, files out; nobody imports it."""

#: Raised whenever the worker gives other results for the same job; part of every job's hash.
WORKER_API = "1"

#: Versions of the two files it shares with the calculation plug-ins.
JOB_SCHEMA = 1
RESULT_SCHEMA = 1
