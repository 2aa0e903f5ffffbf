import { assertEquals, assertStringIncludes } from "@std/assert";
import { asDiskFull, asHostError, describeError, GatewayError, usageError } from "./error.ts";

Deno.test("GatewayError and describeError() bound a reason, which can be a guest's output", () => {
  const why = "x".repeat(1_000_000);
  const error = new GatewayError({ code: "guest-failed", what: "Cannot try", why, fix: "none" });
  assertEquals([error.why.length, error.message.length], [4000, 4000 + "Cannot try: ".length]);
  assertEquals(describeError(new Error(why)).length, 4000);
});

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

Deno.test("asDiskFull() sees a full disk in the words of a program that was run", () => {
  const failed = new GatewayError({
    code: "process-failed",
    what: "Cannot make a file system",
    why: "it ended with code 1: mkfs.ext4: No space left on device while writing out",
    fix: "x",
  });
  const error = asDiskFull(failed, "/small/state.img") as GatewayError;
  assertEquals([error.code, error.what], ["disk-full", 'Cannot write "/small/state.img"']);
});

for (
  const [message, code, why] of [
    ["Permission denied (os error 13): mkdir '/a b/c'", "permission", "the permission"],
    ["Operation not permitted (os error 1): chmod '/a b/c'", "permission", "not permitted"],
    ["Read-only file system (os error 30): open '/a b/c'", "permission", "read-only"],
    ["Not a directory (os error 20): open '/a b/c'", "permission", "a folder is needed"],
    ["File exists (os error 17): mkdir '/a b/c'", "permission", "a folder is needed"],
    ["Disk quota exceeded (os error 122): open '/a b/c'", "disk-full", "no space left"],
    ["Input/output error (os error 5): open '/a b/c'", "disk-error", "Input/output error"],
    ["Stale file handle (os error 116): stat '/a b/c'", "disk-error", "Stale file handle"],
  ] as const
) {
  Deno.test(`asHostError() makes ${code} of "${message}"`, () => {
    const error = asHostError(new Error(message)) as GatewayError;
    assertEquals(error.code, code);
    assertStringIncludes(error.what, '"/a b/c"');
    assertStringIncludes(error.why, why);
  });
}

Deno.test("asHostError() passes through what is not the host's refusal", () => {
  for (
    const error of [
      new TypeError("x is undefined"),
      new Deno.errors.NotCapable("Requires read access"),
      new Error("Connection refused (os error 111)"),
    ]
  ) assertEquals(asHostError(error), error);
});
