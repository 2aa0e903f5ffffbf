import { assertEquals } from "@std/assert";
import { isSameOwner, publicName } from "./owner.ts";

Deno.test("publicName() gives each instance a name of its own", () => {
  assertEquals(["default", "dev", "gateway", "gateway-dev"].map(publicName), [
    "gateway",
    "gateway-dev",
    "gateway-gateway",
    "gateway-gateway-dev",
  ]);
});

Deno.test("isSameOwner() tells data folders apart", () => {
  const owner = { instance: "default", instanceDir: "/a" };
  assertEquals(isSameOwner(owner, { ...owner }), true);
  assertEquals(isSameOwner(owner, { ...owner, instanceDir: "/b" }), false);
  assertEquals(isSameOwner(owner, { ...owner, instance: "dev" }), false);
});
