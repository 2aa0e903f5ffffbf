import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { GatewayError, interruptedError } from "./error.ts";
import { startBeside, together } from "./together.ts";

const never = new AbortController().signal;

Deno.test("together() gives the values in the order of the tasks, however long each takes", async () => {
  const [word, number, nothing] = await together<[string, number, undefined]>([
    () => delay(20).then(() => "slow"),
    () => Promise.resolve(7),
    () => Promise.resolve(undefined),
  ], { signal: never });
  assertEquals([word, number, nothing], ["slow", 7, undefined]);
  assertEquals(await together([], { signal: never }), []);
});

Deno.test("together() throws the first failure once the others have ended, and tells them to", async () => {
  const seen: string[] = [];
  const error = await assertRejects(
    () =>
      together([
        async (signal) => {
          await delay(10_000, { signal }).catch(() => seen.push("told"));
          await delay(20);
          seen.push("tidied");
          throw new Error("because it was told");
        },
        () => Promise.reject(new Error("the first")),
      ], { signal: never }),
    Error,
  );
  assertEquals([error.message, seen], ["the first", ["told", "tidied"]]);
});

Deno.test("together() runs no more at once than it may, and none after a failure", async () => {
  let now = 0;
  let most = 0;
  const begun: number[] = [];
  const task = (at: number) => async () => {
    begun.push(at);
    most = Math.max(most, ++now);
    await delay(at === 2 ? 60 : 5);
    now--;
    if (at === 3) throw new Error("at three");
  };
  const tasks = [0, 1, 2, 3, 4, 5, 6].map(task);
  await assertRejects(() => together(tasks, { signal: never, atOnce: 2 }), Error, "at three");
  assertEquals([most, begun], [2, [0, 1, 2, 3]]);
});

Deno.test("together() ends with the signal's reason when it left tasks out, and keeps what is whole", async () => {
  const user = new AbortController();
  const ended: number[] = [];
  const task = (at: number) => async () => {
    user.abort(interruptedError());
    await delay(5);
    ended.push(at);
    return at;
  };
  const { code } = await assertRejects(
    () => together([task(0), task(1)], { signal: user.signal, atOnce: 1 }),
    GatewayError,
  );
  assertEquals([code, ended], ["interrupted", [0]]);

  const late = new AbortController();
  const both = [0, 1].map((at) => async () => {
    await delay(5);
    late.abort();
    return at;
  });
  assertEquals(await together(both, { signal: late.signal }), [0, 1]);
});

Deno.test("startBeside() goes on beside the caller, and ends when it is disposed or by the signal", async () => {
  const ended: string[] = [];
  const work = (name: string) => async (signal: AbortSignal) => {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    // Disposing waits for what the work does last.
    await Promise.resolve();
    ended.push(name);
  };
  const stop = new AbortController();
  {
    await using _work = startBeside(stop.signal, work("disposed"));
    assertEquals(ended, []);
  }
  assertEquals(ended, ["disposed"]);
  await using other = startBeside(stop.signal, work("by the signal"));
  stop.abort();
  await other.settled;
  assertEquals(ended, ["disposed", "by the signal"]);
});
