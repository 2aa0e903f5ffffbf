import { assert, assertEquals } from "@std/assert";
import { printedBy, spawnChild } from "./process.ts";
import {
  identifyProcess,
  isAlive,
  macTable,
  orphanId,
  ownedName,
  processFacts,
  processStartTime,
} from "./process_table.ts";

Deno.test("isAlive() tells a process from a later one with its pid", () => {
  assert(!isAlive({ pid: Deno.pid, startTime: "1" }));
  const own = identifyProcess(Deno.pid)!;
  assert(isAlive(own) && isAlive({ pid: own.pid, startTime: own.startTime }));
  assert(!isAlive({ ...own, boot: "of another boot" }));
});

Deno.test("orphanId() knows a name of a process that is gone, and no other", () => {
  assertEquals(orphanId("up-", ownedName("up-", "a1.jsonl")), undefined);
  assertEquals(orphanId("up-", "up-999999999-1-a1.jsonl"), "a1.jsonl");
  assertEquals(orphanId("", "999999999-1-of-it"), "of-it");
  // The same pid, but a later process.
  assertEquals(orphanId("", `${Deno.pid}-1-x`), "x");
  const others = ["999999999-1-x", "up-1", "up-x-1-y", "exec-999999999-1-x"];
  assertEquals(others.map((name) => orphanId("up-", name)), others.map(() => undefined));
});

Deno.test("macTable() reads what a Mac's ps and sysctl print", () => {
  const asked: string[] = [];
  const table = (answers: Record<string, string>) =>
    macTable((program, args) => {
      asked.push([program, ...args].join(" "));
      return answers[program];
    });
  const running = table({ ps: "Ss   Tue Dec  1 04:39:15 2026    \n", sysctl: "5C0F-11\n" });
  assertEquals([running.startTime(7), running.boot()], ["1796099955", "5C0F-11"]);
  assertEquals(asked, [
    "ps -o stat= -o lstart= -p 7",
    "sysctl -n kern.bootsessionuuid",
  ]);
  assertEquals(table({ ps: "Z    Tue Dec  1 04:39:15 2026\n" }).startTime(7), undefined);
  assertEquals([table({}).startTime(7), table({}).boot()], [undefined, undefined]);
  assertEquals(table({ ps: " 20480   501\n" }).facts(7), { residentMiB: 20, user: 501 });
  assertEquals(table({}).facts(7), { residentMiB: null, user: null });
});

Deno.test({
  name: "macTable() tells with this host's ps what /proc tells (skipped without ps)",
  ignore: Deno.build.os !== "linux" || printedBy("ps", ["-V"], {}) === undefined,
  fn: async () => {
    const table = macTable();
    const own = table.startTime(Deno.pid)!;
    const runsFor = Date.now() / 1000 - Number(own);
    assert(runsFor >= 0 && runsFor < 24 * 3600, `${runsFor} s`);
    assertEquals(table.startTime(Deno.pid), own);
    assertEquals(table.facts(Deno.pid).user, processFacts(Deno.pid).user);
    const child = spawnChild("sleep", { args: ["60"] });
    assert(table.startTime(child.pid) !== undefined);
    await child.stop(1000);
    assertEquals([table.startTime(child.pid), processStartTime(child.pid)], [undefined, undefined]);
  },
});
