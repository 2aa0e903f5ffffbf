import { assertEquals } from "@std/assert";
import { EventLog } from "../../vm/base/event.ts";
import { detachedArgs } from "../commands/up.ts";
import { followerSink, READY_MESSAGE } from "./detach.ts";

Deno.test("detachedArgs() drops the words that are the follower's own", () => {
  assertEquals(detachedArgs(["up", "--detach", "--name", "dev", "--json"]), ["--name", "dev"]);
  assertEquals(detachedArgs(["-d", "--port", "30052:30051"]), ["--port", "30052:30051"]);
});

Deno.test("detachedArgs() keeps every other word as it is", () => {
  const words = ["--name", "up", "--payload", "a b", "--no-kube-api", "-y"];
  assertEquals(detachedArgs(["up", ...words]), words);
  assertEquals(detachedArgs([]), []);
});

for (const [how, ends] of [["READY", true], ["a failure", true], ["a step's failure", false]]) {
  Deno.test(`followerSink() writes ${ends ? "nothing" : "on"} after ${how}`, async () => {
    const path = await Deno.makeTempFile();
    {
      using sink = followerSink(path);
      const log = new EventLog();
      log.addSink(sink);
      const root = log.span("up");
      root.log("before");
      if (how === "READY") root.log(READY_MESSAGE);
      else if (how === "a failure") log.span("kept").end(new Error("it broke"));
      else root.child("step").end(new Error("it broke"));
      const { size } = await Deno.stat(path);
      root.log("after");
      assertEquals((await Deno.stat(path)).size > size, !ends);
    }
    await Deno.remove(path);
  });
}
