import { assertEquals } from "@std/assert";
import { detachedArgs } from "./up.ts";

Deno.test("detachedArgs() drops the words that are the follower's own", () => {
  assertEquals(detachedArgs(["up", "--detach", "--name", "dev", "--json"]), ["--name", "dev"]);
  assertEquals(detachedArgs(["-d", "--port", "30052:30051"]), ["--port", "30052:30051"]);
});

Deno.test("detachedArgs() keeps every other word as it is", () => {
  const words = ["--name", "up", "--payload", "a b", "--no-kube-api", "-y"];
  assertEquals(detachedArgs(["up", ...words]), words);
  assertEquals(detachedArgs([]), []);
});
