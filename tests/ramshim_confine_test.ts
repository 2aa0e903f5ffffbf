/**
 * What a process may still do in which the memory library was loaded: its own files, and nothing else.
 *
 * @module
 */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { askConfinement } from "../vm/qemu/ram_layer.ts";
import { Place } from "./fakes/ram_place.ts";

const signal = new AbortController().signal;
const [OK, EPERM, EACCES, ECONNREFUSED] = ["0", "1", "13", "111"];

/** The process's words for how it is confined; tests of what the kernel lacks are left out. */
async function landlockVersion(socket: string): Promise<number> {
  const confinement = await askConfinement(socket, signal);
  assertMatch(confinement!, /^seccomp(?: and Landlock \d+|; no Landlock: \S.*)$/);
  return Number(/Landlock (\d+)$/.exec(confinement!)?.[1] ?? 0);
}

/** What the host's kernel has, by a process that was confined; a test says what it leaves out. */
async function withLandlock(
  least: number,
  test: (user: Awaited<ReturnType<Place["start"]>>, place: Place, home: string) => Promise<void>,
): Promise<void> {
  await using place = await Place.make();
  const home = await Deno.makeTempDir({ prefix: "home-" });
  await using _home = {
    [Symbol.asyncDispose]: () => Deno.remove(home, { recursive: true }),
  };
  const user = await place.start([]);
  assertEquals(user.first, "ready");
  const version = await landlockVersion(user.socket);
  if (version < least) {
    // deno-lint-ignore no-console
    console.log(`skipped: it needs Landlock ${least} and this kernel has ${version || "none"}`);
    return;
  }
  await test(user, place, home);
}

Deno.test("a confined process has no capabilities, and gets none by a program", async () => {
  await using place = await Place.make();
  const user = await place.start([]);
  const status = await Deno.readTextFile(`/proc/${user.pid}/status`);
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(status)?.[1];
  for (const set of ["CapPrm", "CapEff", "CapInh", "CapAmb"]) assertMatch(field(set)!, /^0+$/);
  assertEquals([field("NoNewPrivs"), field("Seccomp")], ["1", "2"]);
  assertEquals(await user.ask("x"), EPERM);
});

Deno.test("a confined process opens no socket but those of this host", async () => {
  await using place = await Place.make();
  const user = await place.start([]);
  const version = await landlockVersion(user.socket);
  // What was opened before it was confined is left to Landlock.
  const [connect, bind] = version >= 4 ? [EACCES, EACCES] : [ECONNREFUSED, OK];
  assertEquals(
    await user.ask("n"),
    `tcp ${EPERM} udp ${EPERM} packet ${EPERM} unix ${OK} connect ${connect} bind ${bind}`,
  );
});

Deno.test("a confined process reads, makes and removes its own files only", async () => {
  await withLandlock(1, async (user, place, home) => {
    const secret = join(home, "id_ed25519");
    const own = join(place.dir, "own file");
    await Deno.writeTextFile(secret, "secret");
    const linked = join(place.dir, "link");
    await Deno.symlink(secret, linked);
    for (
      const [line, result] of [
        ...[[`o ${secret}`, EACCES], [`o ${linked}`, EACCES], [`o ${home}/../`, EACCES]],
        ...[[`c ${secret}`, EACCES], [`c ${join(home, "new")}`, EACCES], [`u ${secret}`, EACCES]],
        ...[["o /etc/passwd", EACCES], ["c /dev/shm/gateway-probe", EACCES]],
        ...[[`c ${own}`, OK], [`o ${own}`, OK], [`u ${own}`, OK]],
        ...[["o /proc/self/maps", OK], [`o /proc/${Deno.pid}/environ`, EACCES]],
      ] as const
    ) assertEquals([line, await user.ask(line)], [line, result]);
    assertEquals(await Deno.readTextFile(secret), "secret");
  });
});

Deno.test("a confined process sends no signal to others", async () => {
  await withLandlock(6, async (user) => {
    assertEquals(await user.ask(`k ${Deno.pid}`), EPERM);
    assertEquals(await user.ask(`k ${user.pid}`), OK);
  });
});

Deno.test("a process whose confinement is not understood does not start", async () => {
  await withLandlock(1, async (_user, place) => {
    const user = await place.start([], { confine: ["read /usr", "everything /"] });
    assertEquals([user.first, (await user.exited).code], [undefined, 126]);
    assertMatch(await user.stderr, /cannot understand "everything"/);
  });
});

Deno.test("a process on a kernel without Landlock runs, without programs and network, and says so", async () => {
  await using place = await Place.make();
  const user = await place.start([], { env: { RAMUSER_OLD_KERNEL: "1" } });
  assertEquals(
    await askConfinement(user.socket, signal),
    "seccomp; no Landlock: this kernel has none",
  );
  assertEquals([await user.ask("o /etc/passwd"), await user.ask("x")], [OK, EPERM]);
  assertMatch(await user.ask("n"), /^tcp 1 udp 1 /);
});
