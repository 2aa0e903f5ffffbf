# shellcheck shell=dash
# Words that the stages share: marks, failures, side-by-side jobs, disks, and the end.
# Sourced by gateway-init, so everything here runs in PID 1 and forks only where it must.

run=/run/gateway
mode=cluster agent_pid='' main_pid='' job_kernel='' job_state='' job_payload='' job_network=''

# uptime: sets $up to the seconds since the kernel started. No fork.
uptime() { read -r up _ </proc/uptime; }

# say LINE: one line to the host, through the agent, which alone may open the port.
# Descriptor 9 is the fifo, opened both ways, so that a write never waits for a reader.
say() { [ ! -p "$run/marks" ] || echo "$1" >&9; }

# mark NAME [KEY=VALUE…]: this stage's job is done. The console has it too: that log is there without a host's agent.
mark() {
  uptime
  say "$up $*"
  echo "gateway: $up $*" >/dev/console 2>/dev/null || :
}

# warn TEXT: a line on the console for the person who reads it; nothing acts on it.
warn() { echo "gateway-init: $stage: $1" >/dev/console 2>/dev/null || :; }

# fail WHY: tells the host why this boot cannot go on, and turns the guest off.
fail() {
  trap - EXIT
  say "! $stage: $1"
  warn "$1"
  halt
}

# init_exit CODE: a stage ended the shell by set -e. PID 1 must not end, so say it and turn off.
init_exit() {
  trap - EXIT
  [ "$1" -ne 0 ] || set -- "0, too early"
  fail "a command of this stage failed (exit code $1); the console log has its message"
}

# because WHY: a job's last words. finish makes them the failure of the stage.
because() { echo "$1" >"$run/$job.why"; exit 1; }

# begin JOB: runs jobs/JOB beside the stages; $! is then its pid, for finish.
begin() {
  (
    trap - EXIT TERM USR1 USR2 PWR
    job=$1
    # shellcheck source=/dev/null
    . "$lib/jobs/$job"
    uptime
    echo "$up" >"$run/$job.ready"
  ) &
}

# finish JOB PID: waits for a begun job; sets $ready to the uptime at which it was done.
finish() {
  rc=0
  wait "$2" || rc=$?
  if [ "$rc" -ne 0 ]; then
    why="its job ended with code $rc; the console log has its message"
    [ ! -s "$run/$1.why" ] || read -r why <"$run/$1.why" || :
    fail "$why"
  fi
  read -r ready <"$run/$1.ready"
}

# keep_agent: runs the agent, and again when it ends. A new one thaws what the last one left frozen.
keep_agent() {
  trap - EXIT USR1 USR2 PWR
  trap '' TERM
  while :; do
    "$lib/agent" control 9>&- || :
    sleep 1
  done
}

# find_disk SERIAL: sets $disk to the block device with that serial and $disk_sectors to its size.
find_disk() {
  disk='' disk_sectors=0
  for serial_file in /sys/block/vd*/serial; do
    serial=''
    [ ! -r "$serial_file" ] || read -r serial <"$serial_file" || : # no newline at its end
    if [ "$serial" = "$1" ]; then
      disk=${serial_file%/serial}
      read -r disk_sectors <"$disk/size"
      disk=/dev/${disk##*/}
      return 0
    fi
  done
  return 1
}

# in_cgroup NAME: moves the (sub)shell that calls it; 0 is the writer itself.
in_cgroup() {
  [ -d "/sys/fs/cgroup/$1" ] || return 0
  echo 0 >"/sys/fs/cgroup/$1/cgroup.procs"
}

# set_hostname: the name of $GW_HOSTNAME, to the kernel and to programs.
set_hostname() {
  echo "$GW_HOSTNAME" >/proc/sys/kernel/hostname
  echo "$GW_HOSTNAME" >/run/etc/hostname
  printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >/run/etc/hosts
}

# set_hosts: adds the machine's own address, under its own name and its node's.
set_hosts() {
  own=$lease_ip names=$GW_HOSTNAME
  [ "$own" != none ] || own=127.0.1.1
  [ "${node_name:-$names}" = "$names" ] || names="$names $node_name"
  echo "$own $names" >>/run/etc/hosts
}

# make_machine_id: a new random one, on the state disk.
make_machine_id() {
  read -r uuid </proc/sys/kernel/random/uuid
  IFS=-
  # shellcheck disable=SC2086
  set -- $uuid
  unset IFS
  echo "$1$2$3$4$5" >/state/machine-id
}

# place_manifests DIR: the image's and the payload's files to where the cluster looks for them.
# ours.list names those that came from here, so that one that is no longer shipped goes away
# while those that the user put there stay.
place_manifests() {
  list=/state/gateway/ours.list new='' gone=''
  for file in "$lib"/manifests/*.yaml /run/payload/manifests/*.yaml; do
    [ ! -e "$file" ] || new="$new $file"
  done
  if [ -r "$list" ]; then
    while read -r name; do
      [ -e "$lib/manifests/$name" ] || [ -e "/run/payload/manifests/$name" ] || gone="$gone $1/$name"
    done <"$list"
  fi
  # shellcheck disable=SC2086
  [ -z "$gone" ] || rm -f $gone
  # shellcheck disable=SC2086
  [ -z "$new" ] || cp -f $new "$1/"
  for file in $new; do echo "${file##*/}"; done >"$list"
}

# place_registries: the payload's registries.yaml to where the cluster looks for it, as a link, so that what it holds
# stays in memory; a file of the user's own there stays. Sets $registries_new to 1 when containerd has to read anew.
place_registries() {
  link=/etc/rancher/k3s/registries.yaml target=/run/payload/registries/registries.yaml registries_new=''
  if [ -e "$target" ]; then
    [ -d "${link%/*}" ] || mkdir -p "${link%/*}"
    if [ -L "$link" ] || [ ! -e "$link" ]; then ln -sf "$target" "$link"; fi
  elif [ -L "$link" ]; then
    rm -f "$link"
  fi
  before='' now=none
  [ ! -r "$run/registries.sum" ] || read -r before <"$run/registries.sum"
  if [ -d /run/payload/registries ] || [ -d /run/payload/authorities ]; then
    now=$(cat /run/payload/registries/* /run/payload/authorities/* 2>/dev/null | md5sum)
  fi
  [ "$before" = "$now" ] || registries_new=1
  echo "$now" >"$run/registries.sum"
}

# kill_cgroup NAME: ends every process in it, children included, at one stroke.
kill_cgroup() {
  [ -w "/sys/fs/cgroup/$1/cgroup.kill" ] || return 0
  echo 1 >"/sys/fs/cgroup/$1/cgroup.kill"
}

# thaw_groups: what the agent froze for a save must run to end, also when the agent cannot thaw it any more.
thaw_groups() {
  for freeze in /sys/fs/cgroup/*/cgroup.freeze; do
    [ ! -w "$freeze" ] || echo 0 >"$freeze"
  done
}

# populated NAME: true while a cgroup holds a process.
populated() {
  [ -r "/sys/fs/cgroup/$1/cgroup.events" ] || return 1
  while read -r key value; do
    [ "$key" != populated ] || { [ "$value" = 1 ] && return 0 || return 1; }
  done <"/sys/fs/cgroup/$1/cgroup.events"
  return 1
}

# reap PID SECONDS: waits for a child, and kills it when the time is up.
reap() {
  ( sleep "$2"; kill -9 "$1" ) >/dev/null 2>&1 &
  dog=$!
  wait "$1" 2>/dev/null || :
  kill "$dog" 2>/dev/null || :
}

# ask_pods_to_end: SIGTERM to each process of each pod, then up to 5 s for them to go.
ask_pods_to_end() {
  populated kubepods || return 0
  for procs in /sys/fs/cgroup/kubepods/*/cgroup.procs /sys/fs/cgroup/kubepods/*/*/cgroup.procs \
    /sys/fs/cgroup/kubepods/*/*/*/cgroup.procs; do
    [ -r "$procs" ] || continue
    while read -r pid; do kill -15 "$pid" 2>/dev/null || :; done <"$procs"
  done
  tenths=0
  while [ "$tenths" -lt 50 ] && populated kubepods; do
    sleep 0.1
    tenths=$((tenths + 1))
  done
}

# release_state: unmounts everything that keeps the state disk busy, last mounted first, in one
# call. Sets $state_end to how that went. Mounts of the kernel's own file systems stay.
release_state() {
  mounts=''
  while read -r _ point type _; do
    case $type:$point in
      proc:* | sysfs:* | devtmpfs:* | devpts:* | mqueue:* | cgroup2:* | bpf:* | erofs:* | *:/run | *:/dev/shm) ;;
      *:/ | *:/tmp) ;;
      *) mounts="$point $mounts" ;;
    esac
  done </proc/mounts
  state_end=none
  [ -n "$mounts" ] || return 0
  state_end=clean
  # shellcheck disable=SC2086
  umount $mounts 2>/dev/null || :
  while read -r source point _; do
    [ "$point" = /state ] || continue
    # Something still holds it: a read-only remount writes everything out and marks it clean.
    state_end=busy
    sync
    if mount -o remount,ro "$source" /state 2>/dev/null; then state_end=read-only; fi
  done </proc/mounts
}

# clean_stop: SIGTERM, SIGUSR1, SIGUSR2 (what poweroff, halt and reboot send) or SIGPWR to PID 1. Bounded at every step.
clean_stop() {
  trap '' TERM USR1 USR2 PWR
  trap - EXIT
  set +e
  stage=stop
  mark stopping
  thaw_groups
  cd /
  if [ -n "$main_pid" ]; then
    kill -15 "$main_pid" 2>/dev/null
    reap "$main_pid" 20
  fi
  ask_pods_to_end
  for group in kubepods cluster user; do kill_cgroup "$group"; done
  # The jobs that are still under way, when the stop comes during the boot.
  for pid in $job_kernel $job_state $job_payload $job_network; do
    kill -9 "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
  done
  settle
  release_state
  mark stopped "state=$state_end"
  halt
}

# settle: a killed process leaves its mounts and files a moment later; up to 1 s for that.
settle() {
  tenths=0
  while [ "$tenths" -lt 10 ]; do
    populated kubepods || populated cluster || populated user || return 0
    sleep 0.1
    tenths=$((tenths + 1))
  done
}

# halt: turns the machine off. The agent sends a line within milliseconds of getting it; a moment for that.
halt() {
  trap '' TERM USR1 USR2 PWR
  set +e
  [ -z "$agent_pid" ] || sleep 0.1
  sync
  # Without ACPI nothing can cut the power; a reset ends the machine, since VMMs are told not to reboot.
  if [ -d /sys/firmware/acpi/tables ]; then poweroff -f; fi
  reboot -f
  while :; do sleep 60; done
}
