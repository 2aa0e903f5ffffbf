import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { checkForGuest } from "./kubectl.ts";

Deno.test("checkForGuest() refuses what works with files or ports of this host only", () => {
  for (const verb of ["cp", "port-forward", "proxy"]) {
    const error = assertThrows(() => checkForGuest(["-n", "x", verb, "a"]), GatewayError);
    assertEquals(error.code, "not-supported");
    checkForGuest([verb, "--help"]);
  }
});

Deno.test("checkForGuest() leaves every other word to kubectl", () => {
  for (const verb of ["get", "constructor", "__proto__", "toString"]) checkForGuest([verb]);
});
