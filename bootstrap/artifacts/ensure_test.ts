import { assertEquals, assertThrows } from "@std/assert";
import type { Arch } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { checkBuild, checkBuilder, startTools } from "./ensure.ts";

Deno.test("startTools() asks for QEMU's programs unless libkrun was asked for", () => {
  const names = (vmm: "auto" | "qemu" | "libkrun", os: "linux" | "darwin" = "linux") =>
    startTools({ vmm }, { os }).map(({ program }) => program).filter((name) =>
      name.startsWith("qemu")
    );
  assertEquals(names("libkrun"), []);
  for (const vmm of ["auto", "qemu"] as const) {
    assertEquals(names(vmm), ["qemu-system-x86_64"]);
  }
  // On a Mac libkrun comes first.
  assertEquals([names("auto", "darwin"), names("qemu", "darwin").length], [[], 1]);
});

Deno.test("startTools() asks for the QEMU of the guest's processor", () => {
  const [qemu] = startTools({ vmm: "qemu", arch: "arm64" });
  assertEquals([qemu!.program, qemu!.debian], ["qemu-system-aarch64", "qemu-system-arm"]);
});

Deno.test("checkBuilder() refuses guests that this host cannot build", () => {
  checkBuilder("arm64", { os: "linux", arch: "amd64" });
  checkBuilder("arm64", { os: "linux", arch: "arm64" });
  const refused = (arch: Arch, host: { os: string; arch: Arch }) => {
    const { code, what, why, fix } = assertThrows(() => checkBuilder(arch, host), GatewayError);
    return [code, what, why, fix];
  };
  assertEquals(refused("amd64", { os: "linux", arch: "arm64" }), [
    "host-unsupported",
    "Cannot build an amd64 guest on this host",
    "its processor is arm64, which has no compiler for amd64",
    "use --arch arm64",
  ]);
  assertEquals(refused("arm64", { os: "darwin", arch: "arm64" }), [
    "host-unsupported",
    "Cannot build an arm64 guest on this host",
    "guests are built on Linux, and this is darwin",
    "use a Linux host",
  ]);
});

Deno.test("checkBuild() refuses libkrunfw for arm64", () => {
  const asked = { target: "libkrunfw", refresh: false, arch: "arm64" } as const;
  const { what, why, fix } = assertThrows(() => checkBuild(asked), GatewayError);
  assertEquals([what, why, fix], [
    `Cannot build "libkrunfw" with --arch "arm64"`,
    "that library is made of the amd64 kernel",
    "run `gateway build kernel --arch arm64`",
  ]);
});
