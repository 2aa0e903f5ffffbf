#!/bin/sh
# PID 1 of the outer machine: loads the modules, mounts the disk, runs what is on it, and ends the machine.
export PATH=/bin
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
while read -r module; do $bb insmod "/modules/$module" || echo "cannot load $module"; done </modules/order
tries=0
until $bb mount -t ext4 -o ro /dev/vda /mnt; do
  tries=$((tries + 1))
  [ "$tries" -lt 50 ] || break
  $bb sleep 0.1
done
$bb mount -t proc proc /mnt/proc
$bb mount -t sysfs sys /mnt/sys
$bb mount -t devtmpfs dev /mnt/dev
$bb mount -t tmpfs -o mode=1777,size=1g tmp /mnt/tmp
$bb mkdir /mnt/dev/shm
$bb mount -t tmpfs -o mode=1777 shm /mnt/dev/shm
[ ! -b /dev/vdb ] || $bb mount -t ext4 /dev/vdb /mnt/data
$bb chroot /mnt /bin/sh /gateway/run.sh
echo "the outer machine's work is done"
$bb reboot -f
