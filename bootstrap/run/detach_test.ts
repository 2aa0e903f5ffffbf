import { assertEquals } from "@std/assert";
import { EventLog } from "../../vm/base/event.ts";
import { followerSink, READY_MESSAGE } from "./detach.ts";

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
