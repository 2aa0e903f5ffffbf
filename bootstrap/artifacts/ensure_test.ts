import { assertEquals } from "@std/assert";
import { startTools } from "./ensure.ts";

Deno.test("startTools() asks for QEMU's programs unless libkrun was asked for", () => {
  const names = (vmm: Parameters<typeof startTools>[0]) =>
    startTools(vmm).map(({ program }) => program).filter((name) => name.startsWith("qemu"));
  assertEquals(names("libkrun"), []);
  for (const vmm of ["auto", "qemu"] as const) {
    assertEquals(names(vmm), ["qemu-system-x86_64", "qemu-img"]);
  }
});
