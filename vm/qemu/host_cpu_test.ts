import { assertEquals, assertNotEquals } from "@std/assert";
import { cpuIdentity, hostCpu } from "./host_cpu.ts";

const cpuinfo = (model: string, mhz: string, flags: string) =>
  `processor\t: 0
vendor_id\t: AuthenticAMD
model\t\t: ${model}
model name\t: AMD EPYC
cpu MHz\t\t: ${mhz}
flags\t\t: ${flags}

processor\t: 1
model\t\t: of another core
`;

Deno.test("cpuIdentity() is of the first processor, whatever its clock is at the moment", () => {
  assertEquals(
    cpuIdentity(cpuinfo("1", "2596.1", "fpu aes"), "tcg"),
    "vendor_id=AuthenticAMD,model=1,model name=AMD EPYC",
  );
  for (const accelerator of ["kvm", "tcg"] as const) {
    const key = cpuIdentity(cpuinfo("1", "2596.1", "fpu aes"), accelerator);
    assertEquals(cpuIdentity(cpuinfo("1", "1200.0", "fpu aes"), accelerator), key);
    assertNotEquals(cpuIdentity(cpuinfo("17", "2596.1", "fpu aes"), accelerator), key);
  }
});

Deno.test("cpuIdentity() has the flags only where the guest sees them", () => {
  const [more, fewer] = [cpuinfo("1", "1", "fpu aes"), cpuinfo("1", "1", "fpu")];
  assertNotEquals(cpuIdentity(more, "kvm"), cpuIdentity(fewer, "kvm"));
  assertEquals(cpuIdentity(more, "tcg"), cpuIdentity(fewer, "tcg"));
  assertEquals(cpuIdentity("", "hvf"), "");
});

Deno.test({
  name: "hostCpu() is the same each time",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    assertEquals(await hostCpu("kvm"), await hostCpu("kvm"));
    assertNotEquals(await hostCpu("kvm"), "");
  },
});
