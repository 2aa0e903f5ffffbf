#!/bin/sh
# QEMU for tests. It adds each call to the file `calls` beside it and then does what the file `behaviour` says:
# boots (kernel, then panic), hangs (kernel, then nothing), silent (nothing at all), refuses (an error at once), or
# monitor (qemu_monitor.ts answers on the control socket).
here=$(dirname "$0")
if [ "$1" = --version ]; then
  echo "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
  exit 0
fi
echo "$*" >>"$here/calls"
case $(cat "$here/behaviour") in
boots)
  echo "[    0.000000] Linux version 6.12.0"
  echo "[    0.900000] Kernel panic - not syncing: VFS: Unable to mount root fs"
  ;;
hangs)
  echo "[    0.000000] Linux version 6.12.0"
  exec sleep 60
  ;;
silent) exec sleep 60 ;;
refuses)
  echo "qemu-system-x86_64: could not open the thing" >&2
  exit 1
  ;;
monitor) exec "$(cat "$here/deno")" run -A --quiet --no-config "$(cat "$here/monitor")" "$@" ;;
esac
