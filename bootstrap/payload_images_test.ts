import { assertEquals } from "@std/assert";
import { inOrderOfNeed } from "./payload_images.ts";

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
