#!/usr/bin/env bash
# A real Slurm with one node, this machine, for testing sweeps (Debian, Ubuntu):
#   eval "$(scripts/slurm_dev.sh start [folder])"
#   scripts/slurm_dev.sh stop [folder]
# It writes only to the folder. It exits with 77 where Slurm is missing and cannot be installed.
set -euo pipefail

usage() {
    echo "usage: $0 start|stop [folder]" >&2
    exit 2
}

say() { echo "slurm_dev: $*" >&2; }

installed() { command -v slurmctld slurmd munged srun >/dev/null; }

install_slurm() {
    [[ $(id -u) == 0 ]] && command -v apt-get || return
    say "installing slurm-wlm and munge"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y slurm-wlm munge; } 2>&1
}

# The process in a pid file, if it is still that daemon: pids are reused, and a zombie has a name but no executable.
running() {
    local pid
    pid=$(cat "$folder/$1.pid" 2>/dev/null) || return
    [[ -e /proc/$pid/exe && $(cat "/proc/$pid/comm") == "$1" ]] && echo "$pid"
}

idle() { [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]]; }

free_port() {
    local port
    # Above 24999, where the ports that Lightning chooses end.
    while port=$(shuf -n 1 -i 25000-32000); do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

configure() {
    local cores memory port
    cores=$(nproc)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    port=$(free_port)
    # cred_expire: how long a requeued job waits, 120 s by default.
    # FirstJobId: Lightning makes a job's port from its last four digits, and the job may have a neighbour of another Slurm.
    # config_overrides: two tasks fit on a single core too.
    # The partition `urgent` preempts the jobs of the other one: they get their signal, and are requeued.
    cat >"$SLURM_CONF" <<CONF
ClusterName=dev
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$(free_port)
FirstJobId=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$((cores > 1 ? cores : 2)) RealMemory=$memory
PartitionName=dev Nodes=localhost Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=localhost PriorityTier=2 PreemptMode=OFF
CONF
}

start() {
    # The script is the lock: there is one dpkg for all folders.
    if ! (flock 8 && (installed || install_slurm)) 8<"$0" >"$folder/install.log" </dev/null; then
        say "Slurm is missing and cannot be installed here (as root: apt-get install slurm-wlm munge)" \
            "$(tail -n 1 "$folder/install.log")"
        exit 77
    fi
    if running munged >/dev/null && running slurmctld >/dev/null && running slurmd >/dev/null; then
        say "runs already"
    else
        stop
        configure
        mkdir -p "$folder/state" "$folder/spool"
        [[ -s $folder/munge.key ]] || (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
        # --force: the folder must not be readable for others.
        munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
            --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" </dev/null >"$folder/start.log" 2>&1 9>&-
        slurmctld -c </dev/null >>"$folder/start.log" 2>&1 9>&-
        slurmd -N localhost </dev/null >>"$folder/start.log" 2>&1 9>&-
        for ((try = 0; try < 300; try++)); do
            idle && break
            sleep 0.1
        done
        idle || {
            say "does not start; see the logs in $folder"
            stop
            exit 1
        }
    fi
    echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
    local daemon pid
    # Running jobs would not end with the daemons.
    if running slurmctld >/dev/null && running slurmd >/dev/null; then
        scancel --signal=KILL --full --user="$(id -un)" 2>/dev/null || true
        scancel --user="$(id -un)" || true
        for ((try = 0; try < 100; try++)); do
            [[ -z $(squeue --noheader 2>/dev/null) ]] && break
            sleep 0.1
        done
    fi
    for daemon in slurmd slurmctld munged; do
        pid=$(running "$daemon") || continue
        kill "$pid"
        for ((try = 0; try < 100; try++)); do
            running "$daemon" >/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

[[ $# -ge 1 && $# -le 2 && $1 =~ ^(start|stop)$ ]] || usage
folder=${2:-${TMPDIR:-/tmp}/slurm_dev_$(id -un)}
mkdir -p "$folder"
folder=$(realpath "$folder")
export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin:/sbin
# Two simultaneous starts share one Slurm; the daemons must not keep the lock.
exec 9>"$folder/lock"
flock 9
"$1"
