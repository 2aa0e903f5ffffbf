/**
 * Whether a command sees that the one it works for was killed.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { ownerEnv, watchOwner } from "../bootstrap/saved/owner.ts";
import { spawnChild } from "../vm/base/process.ts";
import { identifyProcess } from "../vm/base/process_table.ts";
import { waitFor } from "../vm/base/wait.ts";

Deno.test("watchOwner() aborts when the owner is killed, and not before", async () => {
  const owner = spawnChild("sleep", { args: ["60"], ownGroup: true });
  using watch = watchOwner(JSON.stringify(identifyProcess(owner.pid)));
  assertEquals(watch.gone.aborted, false);
  await owner.stop(1000);
  await waitFor({
    what: "the owner's end",
    probe: () => Promise.resolve(watch.gone.aborted || undefined),
    timeoutMs: 10_000,
  });
});

Deno.test("watchOwner() watches nobody where no owner is named", () => {
  for (const text of [undefined, "", "null", "nonsense"]) {
    using watch = watchOwner(text);
    assertEquals(watch.gone.aborted, false);
  }
});

Deno.test("ownerEnv() names this process", () => {
  using watch = watchOwner(Object.values(ownerEnv())[0]);
  assertEquals(watch.gone.aborted, false);
});
