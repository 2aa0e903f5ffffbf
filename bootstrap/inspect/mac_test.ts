import { assertEquals } from "@std/assert";
import { ENTITLEMENTS } from "../../vm/libkrun/signed_runtime.ts";
import { type MacFacts, macFault, macText } from "./mac.ts";

const good: MacFacts = {
  version: "14.5",
  appleSilicon: true,
  translated: false,
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
  assertEquals(
    found({ translated: true }),
    "this program is made for Intel's processors and runs by Rosetta",
  );
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

Deno.test("macText() says the version and what the program is signed for", () => {
  assertEquals(
    macText({ ...good, entitlements: ["a", "b"] }),
    "macOS 14.5, signed for a, b",
  );
  assertEquals(
    macText({ ...good, version: "", inVm: true, entitlements: undefined }),
    "macOS of an unknown version in a VM, no signature that can be read",
  );
  assertEquals(macText({ ...good, entitlements: [] }), "macOS 14.5, signed for nothing");
});

Deno.test("macFault() says what to do about each", () => {
  for (
    const change of [
      { appleSilicon: false },
      { version: "11" },
      { translated: true },
      { hypervisor: false },
      { hypervisor: false, inVm: true },
      { entitlements: [] },
    ]
  ) assertEquals(macFault({ ...good, ...change })!.fix.length > 10, true);
});
