import { assertEquals, assertThrows } from "@std/assert";
import { isSameOwner, ownerOf, publicName } from "./owner.ts";

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

Deno.test("ownerOf() names the instance's folder and refuses a bad name", () => {
  assertEquals(ownerOf("dev").instance, "dev");
  assertEquals(ownerOf("dev").instanceDir.endsWith("/gateway/instances/dev"), true);
  assertThrows(() => ownerOf("../x"));
});
