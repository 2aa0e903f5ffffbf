/**
 * A suspended state that was changed on the disk, under the real command line with stand-ins for QEMU and its guest.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { QEMU_IMG_TOOL } from "../vm/disk_chain.ts";
import { silentSpan } from "../vm/event.ts";
import { ensureTools } from "../vm/host_tools.ts";
import { standInWorld } from "./kills/world.ts";

const signal = new AbortController().signal;
await ensureTools([QEMU_IMG_TOOL], { span: silentSpan(), signal, assumeYes: true });

Deno.test("a suspended state that was changed is refused, and the disk is there", async () => {
  await using world = await standInWorld();
  const { home } = world;
  await home.ok([...world.up, "--detach"], { timeoutMs: world.patienceMs });
  await world.write(7);
  await home.ok(["suspend"]);
  const dir = world.dirOf("default");
  const slot = JSON.parse(await Deno.readTextFile(join(dir, "suspend.json")));
  const path = join(dir, slot.devices.name);
  const bytes = await Deno.readFile(path);
  bytes[bytes.length >> 1] ^= 1;
  await Deno.writeFile(path, bytes);
  const { stderr } = await home.ok(["up", "--detach"], { timeoutMs: world.patienceMs });
  assertStringIncludes(stderr, "suspended state is dropped");
  assertEquals(await world.read(), 7);
  await home.ok(["rm", "--force", "default"]);
  await home.assertClean();
});
