#!/bin/sh
# Runs the cases, the benchmark or a user's walk in the outer machine; results go to the second serial line.
export PATH=/usr/bin:/bin HOME=/tmp DENO_DIR=/tmp/deno NO_COLOR=1
export XDG_CACHE_HOME=/cache XDG_RUNTIME_DIR=/tmp XDG_DATA_HOME=/tmp/data XDG_CONFIG_HOME=/tmp/config
mode=cases
for word in $(busybox cat /proc/cmdline); do
  case $word in gateway.nested=*) mode=${word#*=} ;; esac
done
busybox ip link set lo up
busybox ip addr add 10.77.0.1/32 dev lo
busybox stty -F /dev/ttyS1 raw
busybox mkdir -p /tmp/deno
busybox ls -l /dev/kvm
program=/gateway/inside.js
if [ "$mode" = walk ]; then
  program=/gateway/inside_walk.js
  # As a user has it: everything below a home.
  unset XDG_CACHE_HOME XDG_DATA_HOME XDG_CONFIG_HOME
  export HOME=/data GATEWAY_PAYLOAD=demo
fi
deno run -A --quiet --no-check "$program" "$mode" >/dev/ttyS1
echo "deno ended with $?"
