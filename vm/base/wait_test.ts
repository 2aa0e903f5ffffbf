import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { GatewayError, usageError } from "./error.ts";
import { formatMs, raceAbort, waitFor, within } from "./wait.ts";

Deno.test("waitFor() returns the first value the probe gives", async () => {
  let tries = 0;
  const value = await waitFor({
    what: "it",
    probe: () => Promise.resolve(++tries === 3 ? "there" : undefined),
    timeoutMs: 1000,
    intervalMs: 1,
  });
  assertEquals([value, tries], ["there", 3]);
});

Deno.test("waitFor() says what it waited for, how long and the last reason when the bound is reached", async () => {
  const error = await assertRejects(
    () =>
      waitFor({
        what: "the moon",
        probe: () => Promise.reject(new Error("too dark")),
        timeoutMs: 20,
        intervalMs: 5,
        hint: "wait for the night",
      }),
    GatewayError,
  );
  assertEquals([error.code, error.what, error.why, error.fix], [
    "timeout",
    "Timed out after 20 ms waiting for the moon",
    "too dark",
    "wait for the night",
  ]);
});

/** Why a wait ended whose first try ends at once with this reason, if any, and whose others never end. */
async function whyOfHang(
  reason: string | undefined,
  bounds: { readonly timeoutMs: number; readonly probeTimeoutMs?: number },
): Promise<string> {
  let first = reason;
  const probe = () => {
    const error = first;
    first = undefined;
    return error === undefined ? new Promise<never>(() => {}) : Promise.reject(new Error(error));
  };
  const waiting = () => waitFor({ what: "x", probe, intervalMs: 1, ...bounds });
  return (await assertRejects(waiting, GatewayError)).why;
}

Deno.test("waitFor() bounds a probe that hangs", async () => {
  assertStringIncludes(await whyOfHang(undefined, { timeoutMs: 30 }), "no answer within");
});

Deno.test("waitFor() keeps the reason of the last try that its bound did not cut short", async () => {
  assertEquals(await whyOfHang("no light", { timeoutMs: 40 }), "no light");
});

Deno.test("waitFor() names a later try that used up its own bound without an answer", async () => {
  const bounds = { timeoutMs: 200, probeTimeoutMs: 20 };
  assertEquals(await whyOfHang("no light", bounds), "no answer within 20 ms");
});

Deno.test("waitFor() rejects with the signal's reason when it aborts during a probe", async () => {
  const controller = new AbortController();
  const reason = new GatewayError({ code: "vm-exited", what: "Cannot a", why: "b", fix: "c" });
  setTimeout(() => controller.abort(reason), 5);
  const error = await assertRejects(
    () =>
      waitFor({
        what: "x",
        probe: () => new Promise(() => {}),
        timeoutMs: 5000,
        signal: controller.signal,
      }),
    GatewayError,
  );
  assertEquals(error, reason);
});

Deno.test("waitFor() ends at once when the probe finds a usage error", async () => {
  const wrong = usageError("Cannot a", "b", "c");
  const error = await assertRejects(() =>
    waitFor({ what: "x", probe: () => Promise.reject(wrong), timeoutMs: 5000 })
  );
  assertEquals(error, wrong);
});

Deno.test("waitFor() ends at the first error that the caller calls final", async () => {
  let tries = 0;
  const probe = () => Promise.reject(new RangeError(`try ${++tries}`));
  const isFinal = (error: unknown) => error instanceof RangeError && tries === 3;
  const error = await assertRejects(
    () => waitFor({ what: "x", probe, isFinal, timeoutMs: 10_000, intervalMs: 1 }),
    RangeError,
  );
  assertEquals([error.message, tries], ["try 3", 3]);
});

Deno.test("within() is undefined when the promise is late", async () => {
  assertEquals(await within(new Promise((resolve) => setTimeout(resolve, 20)), 1), undefined);
  await new Promise((resolve) => setTimeout(resolve, 25));
  assertEquals(await within(Promise.resolve(3), 1000), 3);
});

Deno.test("raceAbort() gives the value when the signal stays quiet", async () => {
  assertEquals(await raceAbort(Promise.resolve(1), new AbortController().signal), 1);
});

Deno.test("formatMs() picks the unit people read", () => {
  assertEquals([850, 2500, 200_000, 479_800].map(formatMs), [
    "850 ms",
    "2.5 s",
    "3 min 20 s",
    "8 min 0 s",
  ]);
});
