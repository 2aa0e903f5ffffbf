import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { guestTest, stage } from "./harness.ts";

const NOTE = `note() { echo "$1" >>/out/order; }
kill_cgroup() { note "kill $1"; }
populated() { return 1; }
ask_pods_to_end() { note pods; }
`;

guestTest(
  "clean_stop ends the cluster, then pods, then unmounts, when it is asked to",
  async (root) => {
    await root.addDisk("vdb", "state", { sizeMiB: 64 });
    const result = await root.run(`${NOTE}
begin state; job_state=$!
${stage("30-state")}
job_state=''
umount() { note "umount $*"; /bin/busybox umount "$@"; }
( trap 'sleep 0.3; note cluster-ended; exit 0' TERM; while :; do sleep 0.1; done ) &
main_pid=$!
sleep 0.3
clean_stop`);
    assertEquals(result.code, 42, result.stdout + result.stderr);
    const order = (await root.read("out/order")).trim().split("\n");
    assertEquals(order.slice(0, 5), [
      "cluster-ended",
      "pods",
      "kill kubepods",
      "kill cluster",
      "kill user",
    ]);
    assertMatch(order[5]!, /^umount .*\/state/);
    assertMatch(result.marks.at(-2)!, /stopping$/);
    assertMatch(result.marks.at(-1)!, /stopped state=clean$/);
  },
);

guestTest(
  "clean_stop thaws programs, which the agent may have frozen and cannot thaw",
  async (root) => {
    for (const group of ["kubepods", "user"]) {
      await root.write(`sys/fs/cgroup/${group}/cgroup.freeze`, "1\n");
    }
    await root.run(`${NOTE}clean_stop`);
    for (const group of ["kubepods", "user"]) {
      assertEquals(await root.read(`sys/fs/cgroup/${group}/cgroup.freeze`), "0\n");
    }
  },
);

guestTest("clean_stop makes the disk read-only when something holds it", async (root) => {
  await root.addDisk("vdb", "state", { sizeMiB: 64 });
  const result = await root.run(`${NOTE}
begin state; job_state=$!
${stage("30-state")}
( cd /state && exec sleep 30 ) &
sleep 0.2
clean_stop`);
  assertMatch(result.marks.at(-1)!, /stopped state=read-only$/, result.stdout + result.stderr);
});

guestTest("reap kills a child that does not end in time", async (root) => {
  const result = await root.run(`( trap '' TERM; while :; do sleep 1; done ) &
child=$!
reap "$child" 1
kill -0 "$child" 2>/dev/null && echo alive || echo gone`);
  assertStringIncludes(result.stdout, "gone");
});

guestTest("SIGUSR1 to the init shell stops it cleanly while it waits", async (root) => {
  const result = await root.run(`${NOTE}
trap clean_stop TERM USR1 PWR
sleep 30 & main_pid=$!
( sleep 0.5; kill -USR1 $$ ) &
wait "$main_pid"
echo not-reached`);
  assertEquals(result.code, 42, result.stdout + result.stderr);
  assert(!result.stdout.includes("not-reached"));
  assertMatch(result.marks[0]!, /stopping$/);
});

guestTest("fail names the stage and turns the machine off", async (root) => {
  const result = await root.run(`stage=payload; fail "no disk"; echo not-reached`);
  assertEquals(result.code, 42);
  assertEquals(result.marks, ["! payload: no disk"]);
  assert(!result.stdout.includes("not-reached"));
});

guestTest("a command that fails in a stage is a failure of that stage", async (root) => {
  const result = await root.run(`trap 'init_exit $?' EXIT\nstage=network\nfalse\necho not-reached`);
  assertEquals(result.code, 42);
  assertMatch(result.marks[0]!, /^! network: a command of this stage failed \(exit code 1\)/);
});

guestTest(
  "cluster stage starts a crashed cluster again three times and then gives up",
  async (root) => {
    const result = await root.run(`${NOTE}
mount -t tmpfs tmpfs /usr/local/bin
printf '#!/bin/sh\\necho "$@" >>/out/argv\\necho "database is locked" >&2\\nexit 3\\n' >/usr/local/bin/k3s
chmod +x /usr/local/bin/k3s
sleep() { :; }
keep_log_small() { :; }
GW_HOSTNAME=box node_name=box lease_ip=192.168.127.2 GW_K3S_ARGS='--tls-san=lab'
${stage("90-cluster")}`);
    assertEquals(result.code, 42, result.stdout + result.stderr);
    const names = result.marks.map((line) =>
      line.split(" ").slice(0, 2).join(" ").replace(/^[\d.]+ /, "")
    );
    assertEquals(names.filter((name) => name === "cluster-start").length, 4);
    assertEquals(names.filter((name) => name === "cluster-crash").length, 3);
    const failure = result.marks.find((line) => line.startsWith("!"));
    assertMatch(
      failure ?? "",
      /^! cluster: the cluster ended 4 times .* code 3: database is locked$/,
    );
    const [argv = ""] = (await root.read("out/argv")).split("\n");
    assertStringIncludes(argv, "--node-name=box --node-ip=192.168.127.2");
    assertStringIncludes(argv, "--tls-san=lab");
  },
);

guestTest(
  "cluster stage starts again without counting a crash when new certificates are asked for",
  async (root) => {
    const result = await root.run(`${NOTE}
mkdir -p /run/gateway
mount -t tmpfs tmpfs /usr/local/bin
printf '#!/bin/sh\\n[ -e /out/again ] || { : >/out/again; : >/run/gateway/renew; exit 0; }\\nexit 3\\n' >/usr/local/bin/k3s
chmod +x /usr/local/bin/k3s
sleep() { :; }
keep_log_small() { :; }
GW_HOSTNAME=box node_name=box lease_ip=192.168.127.2
${stage("90-cluster")}`);
    const names = result.marks.map((line) => line.split(" ")[1]);
    assertEquals(names.slice(0, 3), ["cluster-start", "cluster-renew", "cluster-start"]);
    assertEquals(names.filter((name) => name === "cluster-crash").length, 3);
  },
);
