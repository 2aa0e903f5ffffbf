import { assertEquals } from "@std/assert";
import { ENTITLEMENTS } from "../../vm/libkrun/signed_runtime.ts";
import { type MacFacts, macFault } from "./mac.ts";

const good: MacFacts = {
  version: "14.5",
  appleSilicon: true,
  inVm: false,
  hypervisor: true,
  entitlements: ENTITLEMENTS,
  released: true,
};
const found = (change: Partial<MacFacts>) => macFault({ ...good, ...change })?.found;

Deno.test("macFault() finds nothing on a Mac that can make VMs", () => {
  assertEquals(found({}), undefined);
  assertEquals(found({ version: "26.0" }), undefined);
  // Where nested virtualization is given to it.
  assertEquals(found({ inVm: true }), undefined);
  // The sources sign a copy of their runtime.
  assertEquals(found({ released: false, entitlements: undefined }), undefined);
  // An unknown version is not a fault.
  assertEquals(found({ version: "" }), undefined);
});

Deno.test("macFault() names what is in the way, the first of several", () => {
  assertEquals(found({ appleSilicon: false, version: "12.0" }), "this Mac has an Intel processor");
  assertEquals(found({ version: "13.6.1" }), "this is macOS 13.6.1");
  assertEquals(
    found({ hypervisor: false, inVm: true }),
    "this macOS runs in a VM, which gives it no virtualization of its own",
  );
  assertEquals(
    found({ hypervisor: false }),
    "the kernel offers no Hypervisor.framework (kern.hv_support is 0)",
  );
  for (const entitlements of [undefined, [], ENTITLEMENTS.slice(1)]) {
    assertEquals(
      found({ entitlements }),
      "the program has lost the entitlement com.apple.security.hypervisor, as when it is signed again",
    );
  }
});

Deno.test("macFault() says what to do about each", () => {
  for (
    const change of [
      { appleSilicon: false },
      { version: "11" },
      { hypervisor: false },
      { hypervisor: false, inVm: true },
      { entitlements: [] },
    ]
  ) assertEquals(macFault({ ...good, ...change })!.fix.length > 10, true);
});
