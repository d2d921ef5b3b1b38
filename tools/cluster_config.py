"""What the private Slurm and its SSH server are told: a node, its limits, where everything is."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

from private_servers import HOST

PARTITION = "main"

#: Nobody may be slowed down by a test that sleeps: the node has more processors than the machine.
CPUS = 8

#: Megabytes of memory the node has, and a job that does not say gets.
MEMORY, MEMORY_OF_A_JOB = 16_000, 1_500

#: Seconds between SIGTERM and SIGKILL, for a job that reaches its time limit or is cancelled.
KILL_WAIT = 12

#: Slurm's servers listen where the machine's own name leads. If that is not this address, they have to listen
#: everywhere; only who has this folder's key for munge can talk to them.
LOOPBACK = "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"

SLURM_CONF = """\
ClusterName={name}
SlurmctldHost={host}({address})
SlurmctldPort={ctld}
SlurmdPort={slurmd}
{loopback}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={munge}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MinJobAge=10
OverTimeLimit=0
KillWait={kill_wait}
DefMemPerNode={job_memory}
NodeName={host} NodeAddr={address} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

SSHD_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile {folder}/sshd.pid
MaxStartups 100
MaxSessions 100
SetEnv SLURM_CONF={slurm_conf}
Subsystem sftp internal-sftp
"""


def slurm_conf(name: str, folder: Path, munge: Path, controller: int, node: int) -> str:
    """Return slurm.conf.

    :param folder: for state, logs and spool.
    :param munge: munge's socket.
    :param controller: port of slurmctld.
    :param node: port of slurmd.
    """
    values = {
        "name": name, "host": socket.gethostname().partition(".")[0], "address": HOST, "ctld": controller,
        "slurmd": node, "user": getpass.getuser(), "munge": munge, "folder": folder, "cpus": CPUS, "memory": MEMORY,
        "loopback": LOOPBACK if leads_to_loopback() else "", "job_memory": MEMORY_OF_A_JOB, "kill_wait": KILL_WAIT,
        "partition": PARTITION,
    }  # fmt: skip
    return SLURM_CONF.format(**values)


def sshd_config(folder: Path, port: int, conf: Path) -> str:
    """Return sshd_config: one key may log in, and its sessions find the Slurm of ``conf``."""
    return SSHD_CONFIG.format(port=port, address=HOST, folder=folder, slurm_conf=conf)


def leads_to_loopback() -> bool:
    """Whether the machine's own name is an address that only the machine itself can reach."""
    try:
        return socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        return False
