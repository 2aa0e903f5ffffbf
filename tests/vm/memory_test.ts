/**
 * What running instances take of the host's memory: clones share with their source what neither has changed, also while
 * the source works, and an idle guest's emulator gives back the code that it need not keep.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { waitFor } from "../../vm/base/wait.ts";
import { mappedOf } from "../fakes/smaps.ts";
import { Client } from "./client.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const UP_TIMEOUT_MS = 20 * 60_000;
const IDLE_TIMEOUT_MS = 3 * 60_000;
const MIB = 1024 * 1024;

/** Writes rising numbers into five hundred files of a file system in memory, again and again. */
const WRITER = `mkdir -p /dev/shm/w; cat >/root/writer <<'END'
i=0
while [ -e /root/writer ]; do
  i=$((i + 1))
  echo $i >/dev/shm/w/$((i % 500))
  [ $((i % 100)) != 0 ] || sleep 0.05
done
END
setsid sh /root/writer >/dev/null 2>&1 </dev/null &`;

Deno.test("memory of running instances", async (t) => {
  await using home = await TestHome.make();
  const client = new Client(home);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));
  const vmm = async (name: string) =>
    (await client.status(name)).processes.find(({ role }) => role === "vmm")!.pid;

  await step(
    "an idle guest's emulator gives translated code back, and the guest goes on",
    async () => {
      const up = ["up", "--detach", "--port", `${freePort()}:30051`, ...SIZE];
      await home.ok(up, { timeoutMs: UP_TIMEOUT_MS });
      const mib = await waitFor({
        what: "memory that is given back",
        probe: async () =>
          (await home.events("default")).map(({ message, attrs }) =>
            /translated code given back/.test(message ?? "") ? Number(attrs?.mib) : undefined
          ).find((one) => one !== undefined),
        timeoutMs: IDLE_TIMEOUT_MS,
        intervalMs: 500,
      });
      assert(mib >= 128, `${mib} MiB`);
      assert(await client.answers());
    },
  );

  await step(
    "clones share their source's memory, and none of it is lost while it works",
    async () => {
      const digest = "sha256sum /dev/shm/blob | cut -c1-64";
      const blob = await client.sh(`head -c 24M /dev/urandom >/dev/shm/blob; ${digest}`);
      await client.sh(WRITER);
      const names = ["one", "two"];
      for (const name of names) {
        await home.ok(["fork", "default", name], { timeoutMs: UP_TIMEOUT_MS });
        assertEquals(await client.sh(digest, name), blob);
      }
      await client.sh("rm /root/writer; sleep 1");
      assertEquals(await client.sh(digest), blob);
      await checkNumbers(client);
      assert(await client.answers());
      for (const name of names) assert(await client.answers(name));
      // The blob lies in the layer that all three have mapped.
      for (const name of ["default", ...names]) {
        const { mapped, own } = await mappedOf(await vmm(name), /\/dev\/shm\/.*\.layer/);
        assert(mapped > 24 * MIB, `${name} has ${mapped / MIB} MiB of them`);
        assert(own < mapped, `${name} changed all of ${mapped / MIB} MiB`);
      }
      for (const name of names) await home.ok(["rm", "--force", name]);
    },
  );

  await step("an instance that shared its memory is suspended and woken whole", async () => {
    const digest = "sha256sum /dev/shm/blob | cut -c1-64";
    const before = await client.sh(digest);
    const { processes } = await client.status();
    const confined = processes.filter(({ confinement }) => confinement?.startsWith("seccomp"));
    assertEquals(confined.map(({ role }) => role), ["vmm", "gvproxy"]);
    const supervisor = processes.find(({ role }) => role === "supervisor")!;
    const inMemory = () => memoryFolders().filter((name) => name.startsWith(`${supervisor.pid}-`));
    // One that it shares layers by, and one that QEMU writes new ones to.
    assertEquals(inMemory().length, 2);
    await home.ok(["suspend"]);
    assertEquals(inMemory(), []);
    await home.ok(["up", "--detach"], { timeoutMs: UP_TIMEOUT_MS });
    assertEquals(await client.sh(digest), before);
    assert(await client.answers());
  });
});

/** The folders of layers that processes have in memory. */
function memoryFolders(): string[] {
  return [...Deno.readDirSync(`/dev/shm/gateway-${Deno.uid()}`)].map(({ name }) => name);
}

/** Every file has the last number that belongs to it; an old one means a page that went back in time. */
async function checkNumbers(client: Client): Promise<void> {
  const text = await client.sh(
    "cd /dev/shm/w && for at in *; do read -r value <$at; echo $at $value; done",
  );
  const found = text.trim().split("\n").map((line) => line.split(" ").map(Number));
  const last = Math.max(...found.map(([, value]) => value!));
  assertEquals(found.length, 500);
  assert(last > 2000, `only ${last} were written`);
  for (const [at, value] of found) {
    assertEquals([at, value! % 500, last - value! < 500], [at, at, true], `${value} of ${last}`);
  }
}
