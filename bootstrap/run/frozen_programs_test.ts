import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { FrozenPrograms } from "./frozen_programs.ts";

const { signal } = new AbortController();

/** A guest that answers as told; gives what it was asked. */
function guest(answer: (verb: string) => string | Error) {
  const sent: string[] = [];
  const request = (command: string) => {
    sent.push(command);
    const text = answer(command.split(" ")[0]!);
    return text instanceof Error ? Promise.reject(text) : Promise.resolve(text);
  };
  const verbs = () => sent.map((command) => command.split(" ")[0]);
  return { control: { request }, sent, verbs };
}

Deno.test("FrozenPrograms.release() lets programs run once, with random bytes", async () => {
  const { control, sent, verbs } = guest((verb) =>
    verb === "freeze" ? "still=true uptime=12.50" : ""
  );
  const programs = new FrozenPrograms(control);
  await programs.release();
  await programs.freeze(signal);
  assertEquals(programs.uptimeSeconds, 12.5);
  await programs.release();
  await programs.release();
  assertEquals(verbs(), ["freeze", "reseed"]);
  assertMatch(sent[1]!, /^reseed [0-9a-f]{128}$/);
});

Deno.test("FrozenPrograms.release() is due after a freeze whose answer did not come", async () => {
  for (const answer of [new Error("late"), "no uptime"]) {
    const { control, verbs } = guest((verb) => verb === "freeze" ? answer : "");
    const programs = new FrozenPrograms(control);
    await assertRejects(
      () => programs.freeze(signal),
      typeof answer === "string" ? GatewayError : Error,
    );
    await programs.release();
    assertEquals(verbs(), ["freeze", "reseed"]);
  }
});

Deno.test("FrozenPrograms.release() can be tried again when the guest did not answer", async () => {
  let answers = false;
  const { control, verbs } = guest((verb) =>
    verb === "reseed" && !answers ? new Error("late") : "still=true uptime=1.00"
  );
  const programs = new FrozenPrograms(control);
  await programs.freeze(signal);
  await assertRejects(() => programs.release());
  answers = true;
  await programs.release();
  assertEquals(verbs(), ["freeze", "reseed", "reseed"]);
});
