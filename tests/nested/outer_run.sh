#!/bin/sh
# Runs the cases or the benchmark in the outer machine; results go to the second serial line.
export PATH=/bin:/usr/bin HOME=/tmp DENO_DIR=/tmp/deno NO_COLOR=1
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
deno run -A --quiet --no-check /gateway/inside.js "$mode" >/dev/ttyS1
echo "deno ended with $?"
