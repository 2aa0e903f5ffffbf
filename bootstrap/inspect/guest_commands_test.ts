import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { portCommand } from "../run/forwards.ts";
import { clusterLog, copy, execInGuest, logs } from "./guest_commands.ts";
import { kubectl } from "./kubectl.ts";

/** No instance has this name, so what gets as far as looking for it has accepted the rest. */
const GHOST = "no-such-instance-here";
const signal = new AbortController().signal;

async function codeOf(fn: () => Promise<unknown>): Promise<string> {
  return (await assertRejects(fn, GatewayError)).code;
}

const COPIES = [
  ["a", "b", "usage", "neither side is NAME:PATH"],
  ["/tmp/a:b", "./c:d", "usage", "neither side is NAME:PATH"],
  ["one:/a", "two:/b", "usage", "both sides are in a guest"],
  ["one:", "one:", "usage", "both sides are in a guest"],
  ["UPPER:/a", "b", "usage", "neither side is NAME:PATH"],
  ["-x:/a", "b", "usage", "neither side is NAME:PATH"],
  [`${GHOST}:/etc/hosts`, ".", "instance-unknown", undefined],
  ["notes.txt", `${GHOST}:/root/`, "instance-unknown", undefined],
  ["/tmp/a:b", `${GHOST}:`, "instance-unknown", undefined],
] as const;

for (const [source, destination, code, why] of COPIES) {
  Deno.test(`copy() of "${source}" to "${destination}" gives ${code}`, async () => {
    const error = await assertRejects(
      () => copy(source, destination, { recursive: false }),
      GatewayError,
    );
    assertEquals(error.code, code);
    if (why !== undefined) assertEquals(error.why, why);
  });
}

Deno.test("the commands that reach into a guest refuse an instance that is not there", async () => {
  assertEquals(
    await codeOf(() => execInGuest(GHOST, ["true"], { tty: false })),
    "instance-unknown",
  );
  assertEquals(
    await codeOf(() => kubectl(GHOST, ["get", "nodes"], { terminal: false })),
    "instance-unknown",
  );
  assertEquals(await codeOf(() => clusterLog(GHOST, false)), "instance-unknown");
  const how = { follow: false, write: () => true, signal };
  for (const source of ["console", "gvproxy", "vmm", "events"] as const) {
    assertEquals(await codeOf(() => logs(GHOST, { ...how, source })), "instance-unknown");
  }
});

Deno.test("portCommand() tells a wrong forward before it looks for the instance", async () => {
  assertEquals(await codeOf(() => portCommand(GHOST, "add", "a:b", signal)), "usage");
  assertEquals(await codeOf(() => portCommand(GHOST, "add", "1:1", signal)), "instance-unknown");
});
