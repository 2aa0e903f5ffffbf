#!/bin/sh
# Runs the guest's cluster in namespaces of this host, from the root image and without a VM, until a pod answers.
# Called by native.ts as: unshare --mount --pid --net --fork sh native.sh ROOT_IMAGE WORK_DIR
# WORK_DIR/state is the state disk's folder and stays; WORK_DIR/log is the cluster's log.
# The last line says after how many seconds the pod answered.
set -eu
image=$1 work=$2 address=10.0.0.2 port=30051
root=$work/root
for folder in lower upper root state/rancher state/kubelet state/log; do mkdir -p "$work/$folder"; done
mount --make-rprivate /
mount -t tmpfs none "$work/upper"
mkdir "$work/upper/files" "$work/upper/work"
mount -o loop,ro "$image" "$work/lower"
mount -t overlay none -o "lowerdir=$work/lower,upperdir=$work/upper/files,workdir=$work/upper/work" "$root"
mkdir -p "$root/var/lib/rancher" "$root/var/lib/kubelet" "$root/var/log"
mount --bind "$work/state/rancher" "$root/var/lib/rancher"
mount --bind "$work/state/kubelet" "$root/var/lib/kubelet"
mount --make-shared "$root/var/lib/kubelet"
mount --bind "$work/state/log" "$root/var/log"
mount -t proc none "$root/proc"
mount -t sysfs none "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/run"
mount -t tmpfs none "$root/tmp"
ip link set lo up
ip address add "$address/32" dev lo
ip route add default dev lo
echo 1 >/proc/sys/net/ipv4/ip_forward
# The image's own are links to these.
mkdir "$root/run/etc"
echo "127.0.0.1 localhost gateway" >"$root/run/etc/hosts"
echo "nameserver $address" >"$root/run/etc/resolv.conf"

k3s=$root/var/lib/rancher/k3s lib=/usr/lib/gateway
mkdir -p "$k3s/server/manifests" "$k3s/agent/images" "$k3s/agent/etc/cni/net.d"
ln -sf "$lib/10-gateway.conflist" "$k3s/agent/etc/cni/net.d/"
for archive in "$root$lib"/images/*.tar; do ln -sf "$lib/images/${archive##*/}" "$k3s/agent/images/"; done
cp "$root$lib"/manifests/*.yaml "$k3s/server/manifests/"
cat >"$k3s/server/manifests/web.yaml" <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - {name: web, image: "gateway.local/busybox:1.37", command: [busybox, httpd, -f, -p, "8080"]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: $port}]}
END

now() { cut -d' ' -f1 /proc/uptime; }
began=$(now)
# As rootfs/guest/stages/90-cluster starts it, but for network policies: not every host's kernel has what they need.
chroot "$root" /usr/local/bin/k3s server --disable=traefik,servicelb,metrics-server,coredns,local-storage \
  --disable-cloud-controller --flannel-backend=none --kube-proxy-arg=proxy-mode=nftables --node-name=gateway \
  --node-ip="$address" --write-kubeconfig-mode=600 --pause-image=gateway.local/pause:3.10 \
  --kubelet-arg=fail-cgroupv1=false --disable-network-policy >"$work/log" 2>&1 &
server=$!
until curl -s -o /dev/null --max-time 1 "http://$address:$port/"; do
  kill -0 "$server" || exit 1
  sleep 0.02
done
echo "$began $(now)" | awk '{ printf "%.2f\n", $2 - $1 }'
# The next start shall find a cluster that had come to rest.
sleep 15
kill "$server"
wait "$server" || :
