#!/usr/bin/env bash
# A real Slurm of one node, made without root from Debian's packages, and a small study on it:
#
#     bash tests/slurm.sh             with .venv/bin/python, or the one that PYTHON names
#
# While a trial runs, its Slurm job is cancelled (tests/slurm.py). Passed, with status 0: every trial is there, with the
# bytes of an undisturbed run. It needs Debian or a relative, and a network for 4 MB of packages. This Slurm listens on
# 127.0.0.1 only but asks nobody who they are: run it where you trust the machine's other users.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(mktemp -d "${TMPDIR:-/tmp}/study-slurm-XXXXXX")
python=${PYTHON:-.venv/bin/python}
study="" daemons=()

fail() { # why, and perhaps a log whose end says more
  echo "slurm: $1" >&2
  [ ! -s "${2:-}" ] || tail -n 15 "$2" | sed 's/^/    /' >&2
  exit 1
}

# The daemons last: without them nobody would end what the jobs have started.
clean_up() {
  trap "" INT TERM HUP
  [ -z "$study" ] || kill -- "-$study" 2> /dev/null || true
  if [ ${#daemons[@]} -gt 0 ]; then
    timeout 5 scancel --user "$(id -un)" 2> /dev/null || true
    for _ in {1..100}; do
      [ -n "$(timeout 5 squeue --noheader 2> /dev/null)" ] || break
      sleep 0.2
    done
    kill "${daemons[@]}" 2> /dev/null || true
    wait "${daemons[@]}" 2> /dev/null || true
  fi
  rm -rf "$folder"
}
trap clean_up EXIT
trap "exit 130" INT
trap "exit 143" TERM HUP

"$python" -c "import dask_jobqueue" 2> /dev/null || fail "$python has no dask-jobqueue; pip install -e '.[cluster]'"
for tool in apt-get dpkg setsid; do
  command -v $tool > /dev/null || fail "no $tool here; this needs Debian or a relative"
done

# -- packages, unpacked but not installed ----------------------------------------------------------------------------

wanted=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins)
options=(-qq)

download() { # the packages, and of what they depend on all that this machine lacks
  local plan all
  plan=$(apt-get "${options[@]}" --simulate --no-install-recommends install "${wanted[@]}") || return 1
  plan=$(awk '$1 == "Inst" && $3 !~ /^\[/ { print $2 }' <<< "$plan") # "[": installed, but could be newer
  mapfile -t all < <(printf '%s\n' "${wanted[@]}" "$plan" | sed '/^$/d' | sort -u)
  (cd "$folder" && apt-get "${options[@]}" download "${all[@]}")
}

echo "slurm: fetching packages"
if ! download > "$folder/apt.log" 2>&1; then
  # The machine's lists of packages are missing or too old, and only root may renew them; so take lists of our own.
  mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial"
  options+=(-o "Dir::State::Lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt" -o Debug::NoLocking=1)
  { apt-get "${options[@]}" update && download; } > "$folder/apt.log" 2>&1 ||
    fail "the packages cannot be fetched" "$folder/apt.log"
fi
for package in "$folder"/*.deb; do dpkg -x "$package" "$folder/root"; done
plugins=$(find "$folder/root" -name auth_none.so -printf %h -quit)
[ -n "$plugins" ] || fail "this version of Slurm has no auth/none"

# -- the cluster -----------------------------------------------------------------------------------------------------

# Exported, because the engine calls Slurm's commands too.
libraries=$(find "$folder/root" -name "*.so*" -printf '%h\n' | sort -u | paste -sd:)
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PATH="$folder/root/usr/bin:$PATH" SLURM_CONF="$folder/slurm.conf" TMPDIR="$folder"

host=$(uname -n)
host=${host%%.*}
read -r port other < <("$python" -c "
import socket
found = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in found))")
mkdir "$folder/state" "$folder/spool"
# Two CPUs whatever the machine has, so that two jobs run at a time; memory is counted but not enforced. Tracked by
# process group, a job ends with all that it started, as with a real cluster's cgroups; linuxproc loses orphans.
cat > "$SLURM_CONF" << END
ClusterName=study
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$other
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
MailProg=/bin/true
PluginDir=$plugins
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000
PartitionName=all Nodes=$host Default=YES
END

# Debian's files are called slurmd-wlm and so on. In sessions of their own, so that Ctrl-C reaches this script alone,
# which then ends jobs and daemons in order.
sbin=$folder/root/usr/sbin
setsid "$sbin"/slurmctld* -D -i > "$folder/slurmctld.log" 2>&1 &
daemons+=($!)
setsid "$sbin"/slurmd* -D -N "$host" -d "$sbin"/slurmstepd* > "$folder/slurmd.log" 2>&1 &
daemons+=($!)
for _ in {1..150}; do
  state=$(timeout 5 sinfo --noheader --format %T 2> /dev/null || true)
  [ "$state" != idle ] || break
  sleep 0.2
done
[ "$state" = idle ] || fail "the node is '$state' after half a minute, not idle" "$folder/slurmctld.log"
echo "slurm: $(sinfo --version) is up, one node"

# -- the study -------------------------------------------------------------------------------------------------------

cat > "$folder/slurm.yaml" << END
jobs: 2
memory: 2GB
walltime: "00:20:00"
interface: lo
END
# Dask waits 15 s before it replaces a lost worker's job, in which a fast machine would finish all trials without it.
export DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT=1s
setsid "$python" -m tests.slurm "$folder" &
study=$!
wait "$study" && exit
logs=("$folder"/*disturbed/log.txt) # of the undisturbed run if it failed already
fail "the study did not pass; the end of its log:" "${logs[0]}"
