import { assertEquals, assertRejects } from "@std/assert";
import type { ApiCall } from "./api.ts";
import { type ContainerStatus, eventLines, isReady, lastLog, podWords } from "./pod_story.ts";

const container = (more: Partial<ContainerStatus>): ContainerStatus => ({
  ...{ name: "web", ready: false, restartCount: 0 },
  ...more,
});
const crashed = container({
  restartCount: 2,
  state: { waiting: { reason: "CrashLoopBackOff", message: "back-off 20s" } },
});
const question = { namespace: "demo", pod: "web-1", container: crashed, lines: 3 };

/** Gives one answer after the other, the last one for ever. */
function logs(...answers: readonly string[]) {
  const asked: string[] = [];
  const text = ({ path }: ApiCall) => {
    asked.push(path);
    return Promise.resolve(answers[Math.min(asked.length, answers.length) - 1]!);
  };
  return { text, asked };
}

Deno.test("podWords() tells of a pod without a place, and of each container that is not as it should be", () => {
  const state = (state: ContainerStatus["state"]) => container(state ? { state } : {});
  const words = (...containerStatuses: ContainerStatus[]) => podWords({ containerStatuses });
  assertEquals(words(crashed), ["web waits (CrashLoopBackOff: back-off 20s), started 3 times"]);
  assertEquals(words(state({ waiting: {} })), ["web waits (no reason)"]);
  assertEquals(words(state(undefined)), ["web runs and is not ready"]);
  assertEquals(words(state({ terminated: { exitCode: 3, reason: "Error" } })), [
    "web ended with code 3",
  ]);
  assertEquals(words(state({ terminated: { exitCode: 137, reason: "OOMKilled" } })), [
    "web ended with code 137 (out of memory)",
  ]);
  assertEquals(words(container({ ready: true })), []);
  assertEquals(words(container({ ready: true, restartCount: 1 })), ["web runs, started 2 times"]);
  const conditions = [
    { type: "PodScheduled", status: "False", reason: "Unschedulable", message: "too little cpu" },
  ];
  assertEquals(podWords({ conditions, containerStatuses: [crashed] }), [
    "not placed on a node: too little cpu",
  ]);
});

Deno.test("isReady() takes a pod that has done its work for one that serves", () => {
  assertEquals(isReady({ phase: "Succeeded" }), true);
  assertEquals(isReady({ conditions: [{ type: "Ready", status: "True" }] }), true);
  assertEquals(
    isReady({ phase: "Running", conditions: [{ type: "Ready", status: "False" }] }),
    false,
  );
  assertEquals(isReady({}), false);
});

Deno.test("eventLines() has the newest last, each once, and a bound", () => {
  const event = (reason: string, lastTimestamp: string, count = 1) => ({
    ...{ reason, lastTimestamp, count, message: "m" },
    involvedObject: { kind: "Pod", name: "a" },
  });
  const events = [event("Third", "3"), event("First", "1"), event("Second", "2", 4)];
  assertEquals(eventLines([...events, events[0]!], 2), [
    "event Pod a: Second: m (4 times)",
    "event Pod a: Third: m",
  ]);
});

Deno.test("lastLog() is that of the try before for a container that crashed, the newest lines of it", async () => {
  const api = logs("one\n\ntwo\nthree\nfour\n");
  const { signal } = new AbortController();
  assertEquals(await lastLog(api, question, signal), ["two", "three", "four"]);
  const query = "container=web&tailLines=3&limitBytes=16384";
  assertEquals(api.asked, [`/api/v1/namespaces/demo/pods/web-1/log?${query}&previous=true`]);
  const running = logs("now\n");
  const fresh = { ...question, container: container({ restartCount: 2, ready: true }) };
  assertEquals(await lastLog(running, fresh, signal), ["now"]);
  assertEquals(running.asked, [`/api/v1/namespaces/demo/pods/web-1/log?${query}`]);
});

Deno.test("lastLog() asks again when the container was removed meanwhile, and never shows those words", async () => {
  const removed = "unable to retrieve container logs for containerd://0123";
  const { signal } = new AbortController();
  const api = logs(removed, "no database\n");
  assertEquals(await lastLog(api, question, signal), ["no database"]);
  const gone = logs(removed);
  assertEquals(await lastLog(gone, question, signal), []);
  assertEquals(gone.asked.length, 4);
});

Deno.test("lastLog() has nothing where the API refuses, and ends with the signal", async () => {
  const refuses = { text: () => Promise.reject(new Error("forbidden")) };
  assertEquals(await lastLog(refuses, question, new AbortController().signal), []);
  const stopped = new Error("stopped");
  await assertRejects(() => lastLog(refuses, question, AbortSignal.abort(stopped)));
});
