import { assertEquals, assertStringIncludes } from "@std/assert";
import { asDiskFull, describeError, GatewayError, usageError } from "./error.ts";

Deno.test("GatewayError.exitCode is 2 for usage, 70 for bugs, 130 for interrupts, else 1", () => {
  const of = (code: ConstructorParameters<typeof GatewayError>[0]["code"]) =>
    new GatewayError({ code, what: "Cannot x", why: "y", fix: "z" }).exitCode;
  assertEquals([of("usage"), of("bug"), of("interrupted"), of("disk-full")], [2, 70, 130, 1]);
});

Deno.test("usageError() joins what and why in its message", () => {
  assertEquals(usageError("Cannot a", "b", "c").message, "Cannot a: b");
});

Deno.test("asDiskFull() names the path when the system says ENOSPC", () => {
  const error = asDiskFull(new Error("No space left on device (os error 28)"), "/x/y");
  assertEquals(error instanceof GatewayError && error.code, "disk-full");
  assertStringIncludes(describeError(error), '"/x/y"');
});

Deno.test("asDiskFull() passes any other error through", () => {
  const error = new Error("something else");
  assertEquals(asDiskFull(error, "/x"), error);
});

Deno.test("describeError() folds lines and never is empty", () => {
  assertEquals(describeError(new Error("a\n  b")), "a b");
  assertEquals(describeError(new Error("")), "no reason was given");
});
