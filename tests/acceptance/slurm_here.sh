#!/usr/bin/env bash
# Starts, or stops, a Slurm cluster of one node on this machine: its daemons, its files in FOLDER. Needs root, and
# Debian's packages slurm-wlm and munge.
#
# Usage: tests/acceptance/slurm_here.sh start|stop FOLDER      prints the SLURM_CONF to export
set -euo pipefail
what=$1 folder=$(mkdir -p "$2" && cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

if [ "$what" = stop ]; then
    for daemon in slurmctld slurmd munged; do
        [ ! -f "$folder/$daemon.pid" ] || kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
    done
    exit
fi

mkdir -p "$folder"/{state,spool} /run/munge
chown munge: /run/munge
[ -f /etc/munge/munge.key ] || mungekey --create
pgrep -x munged >/dev/null || runuser -u munge -- munged
cat >"$SLURM_CONF" <<CONF
ClusterName=here
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge=20
KillWait=5
MpiDefault=none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld
slurmd
for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
    sleep 0.5
done
[ "$(sinfo --noheader --format=%T)" = idle ] || { echo "no idle node: $(sinfo); logs are in $folder" >&2; exit 1; }
echo "SLURM_CONF=$SLURM_CONF"
