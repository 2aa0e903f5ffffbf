import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { checkFits, inOrderOfNeed } from "./prepare.ts";

Deno.test("inOrderOfNeed() puts the chart installer first, then what manifests name", () => {
  const refs = [
    ...["r.test/gateway:1", "r.test/base:1", "r.test/controller:1", "r.test/controller:1.2"],
    "gateway.local/helm:1",
  ];
  const manifests = [
    { name: "other.yaml", text: "kind: Namespace\n" },
    { name: "controller.yaml", text: "        image: r.test/controller:1.2\n" },
  ];
  const order = inOrderOfNeed(refs.map((ref) => ({ ref })), { manifests }).map(({ ref }) => ref);
  assertEquals(order, [
    ...["gateway.local/helm:1", "r.test/controller:1.2"],
    ...["r.test/gateway:1", "r.test/base:1", "r.test/controller:1"],
  ]);
});

Deno.test("checkFits() names images that are larger than the instance's disk", () => {
  const images = [{ ref: "r.test/a:1", sizeBytes: 100 << 20 }, {
    ...{ ref: "r.test/base:1", sizeBytes: 1000 << 20 },
  }];
  checkFits(images, { name: "dev", stateMiB: 1100 });
  const error = assertThrows(
    () => checkFits(images, { name: "dev", stateMiB: 1099 }),
    GatewayError,
  );
  assertEquals([error.code, error.why, error.fix], [
    "disk-full",
    "they take 1.1 GiB, 1000.0 MiB of it r.test/base:1, and its disk has 1.1 GiB",
    "make a new instance with --disk 3300 or more",
  ]);
});
