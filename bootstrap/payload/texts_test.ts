import { assertEquals } from "@std/assert";
import type { KubeValue } from "../yaml/kube_yaml.ts";
import { findNoText } from "./texts.ts";

const container = (fields: { [name: string]: KubeValue }) => ({
  spec: { template: { spec: { containers: [{ name: "a" }, { name: "b", ...fields }] } } },
});
const at = "spec.template.spec.containers.1";

for (
  const [apiVersion, kind, fields, place, value] of [
    ["v1", "X", { metadata: { namespace: false } }, "metadata.namespace", false],
    ["v1", "X", { metadata: { labels: { a: "b", c: true } } }, "metadata.labels.c", true],
    ["v1", "X", { metadata: { annotations: { a: 1 } } }, "metadata.annotations.a", 1],
    ["v1", "ConfigMap", { data: { a: "1", b: 2 } }, "data.b", 2],
    ["v1", "Secret", { stringData: { a: [1] } }, "stringData.a", [1]],
    ["apps/v1", "Deployment", container({ env: [{ value: true }] }), `${at}.env.0.value`, true],
    ["batch/v1", "Job", container({ args: ["a", 8080] }), `${at}.args.1`, 8080],
    [
      "v1",
      "List",
      { items: [{ apiVersion: "v1", kind: "ConfigMap", data: { a: 1n } }] },
      "items.0.data.a",
      1n,
    ],
  ] as const
) {
  Deno.test(`findNoText() finds ${place} of a ${kind}`, () => {
    const found = findNoText({ apiVersion, kind, ...fields } as KubeValue);
    assertEquals(found && [found.path.join("."), found.value], [place, value]);
  });
}

Deno.test("findNoText() leaves texts, absent fields and kinds that it does not know", () => {
  const objects: readonly KubeValue[] = [
    { apiVersion: "v1", kind: "ConfigMap", data: { a: "1", b: null } },
    { apiVersion: "example.com/v1", kind: "ConfigMap", data: { a: 1 } },
    { apiVersion: "apps/v1", kind: "Deployment", spec: { replicas: 1, template: null } },
    { apiVersion: "v1", kind: "Secret", data: null, metadata: [] },
  ];
  for (const object of objects) assertEquals(findNoText(object), undefined);
});
