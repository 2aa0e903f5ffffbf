import { assertEquals, assertThrows } from "@std/assert";
import { errnoName } from "./errno.ts";
import { KrunError } from "./error.ts";
import { macBytes } from "./krun.ts";
import {
  compareVersions,
  firmwareCandidates,
  KrunLibrary,
  libraryCandidates,
  versionOfName,
} from "./library.ts";
import { KRUN_SYMBOLS, type KrunSymbol } from "./symbols.ts";
import { socketAddress } from "./unix_socket.ts";

Deno.test("libraryCandidates() takes the flag or the variable alone, in this order", () => {
  const host = { os: "linux", arch: "x86_64", artifact: "/store/libkrun.so" };
  assertEquals(libraryCandidates({ ...host, flag: "/f", variable: "/v" }), [
    { path: "/f", source: "--libkrun" },
  ]);
  assertEquals(libraryCandidates({ ...host, variable: "/v" }), [
    { path: "/v", source: "GATEWAY_LIBKRUN" },
  ]);
});

Deno.test("libraryCandidates() looks at the system's places first and at our own build last", () => {
  const paths = libraryCandidates({ os: "linux", arch: "x86_64", artifact: "/store/libkrun.so" })
    .map(({ path }) => path);
  assertEquals(paths.includes("/usr/lib/x86_64-linux-gnu/libkrun.so.1"), true);
  assertEquals(paths.at(-1), "/store/libkrun.so");
});

Deno.test("libraryCandidates() knows both Homebrews", () => {
  const of = (arch: string) => libraryCandidates({ os: "darwin", arch }).map(({ path }) => path);
  assertEquals(of("aarch64"), ["/opt/homebrew/lib/libkrun.dylib", "/usr/local/lib/libkrun.dylib"]);
  assertEquals(of("x86_64"), ["/usr/local/lib/libkrun.dylib"]);
});

Deno.test("firmwareCandidates() looks beside the library first", () => {
  assertEquals(firmwareCandidates("/a/libkrun.so", "linux", "x86_64")[0], "/a/libkrunfw.so.5");
  assertEquals(
    firmwareCandidates("/opt/homebrew/lib/libkrun.dylib", "darwin", "aarch64"),
    ["/opt/homebrew/lib/libkrunfw.5.dylib", "/usr/local/lib/libkrunfw.5.dylib"],
  );
});

Deno.test("versionOfName() reads the version where the name has one", () => {
  assertEquals(versionOfName("/lib/libkrun.so.1.19.7"), "1.19.7");
  assertEquals(versionOfName("/lib/libkrun.1.9.5.dylib"), "1.9.5");
  assertEquals(versionOfName("/lib/libkrun.so.1"), undefined);
  assertEquals(compareVersions("1.9.5", "1.19.0") < 0, true);
});

Deno.test("KrunLibrary.open() says what is wrong with a file", async () => {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, "no library");
    assertThrows(() => KrunLibrary.open("libkrun.so"), KrunError, "not an absolute path");
    assertThrows(() => KrunLibrary.open("/nowhere/libkrun.so"), KrunError, "No such file");
    assertThrows(() => KrunLibrary.open(file), KrunError, "cannot be loaded");
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("the table's calls are those of its prototypes", () => {
  const types: Readonly<Record<string, string>> = {
    uint8_t: "u8",
    uint32_t: "u32",
    uint64_t: "u64",
    int: "i32",
    int32_t: "i32",
    bool: "bool",
  };
  for (const [name, symbol] of Object.entries(KRUN_SYMBOLS) as [string, KrunSymbol][]) {
    const [, result, named, list] = /^(\w+) (\w+)\((.*)\)$/.exec(symbol.c)!;
    const parameters = list === "" || list === "void" ? [] : list!.split(", ");
    const wanted = parameters.map((text) =>
      /\*|\[\]/.test(text) ? "buffer" : types[text.split(" ")[0]!]
    );
    assertEquals([named, types[result!], wanted], [name, symbol.result, [...symbol.parameters]]);
  }
});

Deno.test("errnoName() knows that the two systems differ", () => {
  assertEquals(errnoName(22), "EINVAL");
  assertEquals([errnoName(95, "linux"), errnoName(45, "darwin")], ["ENOTSUP", "ENOTSUP"]);
  assertEquals([errnoName(11, "linux"), errnoName(11, "darwin")], ["EAGAIN", "EDEADLK"]);
  assertEquals(errnoName(4000), "errno 4000");
});

Deno.test("macBytes() takes six bytes and nothing else", () => {
  assertEquals([...macBytes("5a:94:ef:e4:0c:ee")], [0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xee]);
  assertThrows(() => macBytes("5a:94:ef:e4:0c"), KrunError, "not a hardware address");
});

Deno.test("socketAddress() is a sockaddr_un of each system", () => {
  assertEquals([...socketAddress("/a", "linux")], [1, 0, 47, 97, 0]);
  assertEquals([...socketAddress("/a", "darwin")], [5, 1, 47, 97, 0]);
  assertThrows(() => socketAddress("/".repeat(104), "linux"), KrunError, "104 bytes");
  assertThrows(() => socketAddress("", "linux"), KrunError, "0 bytes");
});
