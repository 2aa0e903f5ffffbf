import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { GOOD, payloadFolder as folder, WEB } from "../../tests/fakes/payload_folder.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { readPayload } from "./read.ts";

const MANIFEST = `\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: web}
spec:
  replicas: 1
  template:
    metadata: {labels: {app.kubernetes.io/name: web}}
    spec:
      containers: [{name: main, args: [--leader-elect=true]}]
---
apiVersion: v1
kind: List
items:
  - null
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: web, namespace: one}, data: {a: b}}
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: web, namespace: two}, data: {a: b}}
`;

const ARGS = "/spec/template/spec/containers/0/args";

/** A payload whose patches are these lines of YAML. */
const patched = async (patches: string, manifest = MANIFEST) =>
  await readPayload(
    await folder({ "payload.yaml": `${GOOD}patches: ${patches}\n`, "web.yaml": manifest }),
  );

/** The objects of its manifest. */
async function objects(patches: string, manifest?: string) {
  const { manifests } = await patched(patches, manifest);
  return manifests[0]!.text.split("\n---\n").map((one) => JSON.parse(one));
}

const on = (kind: string, ...patch: string[]) =>
  `[{kind: ${kind}, name: web, patch: [${patch.map((one) => `{${one}}`).join(", ")}]}]`;

Deno.test("readPayload() applies each operation of a patch, and leaves other objects", async () => {
  const [deployment, list] = await objects(on(
    "Deployment",
    `op: add, path: ${ARGS}/-, value: --leader-elect=false`,
    `op: add, path: ${ARGS}/0, value: --first`,
    "op: test, path: /spec/replicas, value: 1",
    "op: replace, path: /spec/replicas, value: 18446744073709551615",
    "op: copy, from: /spec/replicas, path: /spec/copied",
    "op: move, from: /metadata/namespace, path: /metadata/annotations",
    "op: remove, path: /spec/template/metadata/labels/app.kubernetes.io~1name",
    "op: add, path: /spec/nothing, value: null",
  ));
  const { metadata, spec: { template, ...spec } } = deployment;
  assertEquals(template.spec.containers[0].args, [
    ...["--first", "--leader-elect=true", "--leader-elect=false"],
  ]);
  assertEquals(template.metadata.labels, {});
  assertEquals(metadata, { name: "web", annotations: "web" });
  // As a number of this language; the text has all its digits.
  assertEquals(spec, { replicas: 2 ** 64, copied: 2 ** 64, nothing: null });
  assertEquals(list, (await objects("[]"))[1]);
});

Deno.test("readPayload() keeps all digits of a number in a patch", async () => {
  const { manifests } = await patched(
    on("Deployment", "op: replace, path: /spec/replicas, value: 9007199254740993"),
  );
  assertNotEquals(manifests[0]!.text.indexOf('"replicas":9007199254740993,'), -1);
});

Deno.test("readPayload() finds an object by its group, and by its namespace, also in a list", async () => {
  const [deployment] = await objects(on("Deployment.apps", "op: remove, path: /spec/replicas"));
  assertEquals(deployment.spec.replicas, undefined);
  const [, { items }] = await objects(
    "[{kind: ConfigMap, name: web, namespace: two, patch: [{op: replace, path: /data/a, value: c}]}]",
  );
  assertEquals([items[1].data, items[2].data], [{ a: "b" }, { a: "c" }]);
});

Deno.test("readPayload() gives another digest when a patch changes", async () => {
  const digest = async (value: string) =>
    (await patched(on("Deployment", `op: replace, path: /spec/replicas, value: ${value}`))).digest;
  assertNotEquals(await digest("2"), await digest("3"));
});

/** Patches that do not fit, and what is said of them; each begins in line 29. */
const FAULTS: readonly (readonly [what: string, patches: string, why: string, fix: RegExp])[] = [
  [
    "an object that is not there",
    on("StatefulSet", "op: remove, path: /spec"),
    'payload.yaml:29:11: patches[0]: no manifest holds the StatefulSet "web"',
    /^correct its kind, name and namespace/,
  ],
  [
    "an object in another namespace",
    "[{kind: Deployment, name: web, namespace: two, patch: [{op: remove, path: /spec}]}]",
    'payload.yaml:29:11: patches[0]: no manifest holds the Deployment "web" of the namespace "two"',
    /^correct its kind, name and namespace/,
  ],
  [
    "an object of another group",
    on("Deployment.batch", "op: remove, path: /spec"),
    'payload.yaml:29:11: patches[0]: no manifest holds the Deployment.batch "web"',
    /^correct its kind, name and namespace/,
  ],
  [
    "two objects of one name",
    on("ConfigMap", "op: remove, path: /data"),
    'payload.yaml:29:11: patches[0]: the ConfigMap "web" is in web.yaml and again in web.yaml',
    /^name its namespace/,
  ],
  [
    "a path that is not there",
    on("Deployment", "op: test, path: /spec/replicas, value: 1", "op: remove, path: /spec/replica"),
    'payload.yaml:29:106: patches[0].patch[1].path: the object has nothing at "/spec/replica"',
    /^correct the path/,
  ],
  [
    "another value than the one that is tested",
    on("Deployment", `op: test, path: ${ARGS}/0, value: --other`),
    `payload.yaml:29:49: patches[0].patch[0]: the object has another value at "${ARGS}/0"`,
    /^compare the patch with the manifest/,
  ],
  [
    "a source that is not there",
    on("Deployment", "op: copy, from: /spec/a, path: /spec/b"),
    'payload.yaml:29:60: patches[0].patch[0].from: the object has nothing at "/spec/a"',
    /^correct the path/,
  ],
  [
    "a value for an operation that has none",
    on("Deployment", "op: remove, path: /spec, value: 1"),
    "payload.yaml:29:75: patches[0].patch[0].value: the operation remove does not have this field",
    /^remove it$/,
  ],
  [
    "an operation without its value",
    on("Deployment", "op: add, path: /spec/a"),
    "payload.yaml:29:49: patches[0].patch[0].value: it is missing",
    /^add it, such as `value: 2`$/,
  ],
  [
    "an operation without its source",
    on("Deployment", "op: move, path: /spec/a"),
    "payload.yaml:29:49: patches[0].patch[0].from: it is missing",
    /^add it, such as `from: /,
  ],
  [
    "an unknown operation",
    on("Deployment", "op: set, path: /spec/a, value: 1"),
    "payload.yaml:29:50: patches[0].patch[0].op: it is none of add, remove, replace, move, copy, test",
    /^write it in its form, such as `op: replace`$/,
  ],
  [
    "a path in another form",
    on("Deployment", "op: remove, path: spec.replicas"),
    "payload.yaml:29:62: patches[0].patch[0].path: it is not a JSON pointer such as /spec/replicas",
    /^write it in its form/,
  ],
  [
    "a path that the library does not follow",
    on("Deployment", "op: remove, path: /spec/constructor/name"),
    "payload.yaml:29:62: patches[0].patch[0].path: a patch cannot lead through __proto__, constructor",
    /^write it in its form/,
  ],
  [
    "an unknown field",
    on("Deployment", "op: remove, path: /spec, vaule: 1"),
    "payload.yaml:29:75: patches[0].patch[0].vaule: there is no such field",
    /^remove it, or use one of op, path, from, value$/,
  ],
  [
    "a result that no cluster takes",
    on("Deployment", "op: replace, path: /metadata/name, value: 7"),
    "payload.yaml:29:41: patches[0].patch: after this patch metadata.name: YAML reads it as 7",
    /^put it into quotes$/,
  ],
];

for (const [what, patches, why, fix] of FAULTS) {
  Deno.test(`readPayload() refuses a patch with ${what}`, async () => {
    const error = await assertRejects(() => patched(patches), GatewayError);
    assertEquals([error.code, error.why.slice(0, why.length)], ["payload-invalid", why]);
    assertEquals(fix.test(error.fix), true, error.fix);
  });
}

Deno.test("readPayload() refuses every path that leads to no place of the object", async () => {
  const value = "value: 1";
  const nowhere = [
    ...[`remove, path: ${ARGS}/1`, `remove, path: ${ARGS}/length`, `remove, path: ${ARGS}/-`],
    ...[`remove, path: ${ARGS}/00`, "remove, path: /spec/toString", "remove, path: /kind/length"],
    ...[`replace, path: ${ARGS}/x, ${value}`, `replace, path: /spec/x, ${value}`],
    ...[`add, path: ${ARGS}/2, ${value}`, `add, path: ${ARGS}/x, ${value}`],
    ...[`add, path: /kind/x, ${value}`, `add, path: /spec/x/y, ${value}`],
    ...[`test, path: /spec/x, value: null`, `copy, from: ${ARGS}, path: /spec/x/y`],
  ];
  for (const operation of nowhere) {
    const error = await assertRejects(
      () => patched(on("Deployment", `op: ${operation}`)),
      GatewayError,
      undefined,
      operation,
    );
    assertEquals(/path: the object has nothing at "/.test(error.why), true, error.why);
  }
});

Deno.test("readPayload() looks at an object as the patches leave it", async () => {
  // The name that no cluster takes is the patch's to correct.
  const manifest = WEB.replace("name: web\n", "name: 7\n");
  await assertRejects(() => patched("[]", manifest), GatewayError, "Cannot use the payload");
  const renamed = WEB.replace("name: web\n", "name: web\n  labels: {on: 1}\n");
  const [service] = await objects(
    on("Service", "op: replace, path: /metadata/labels/true, value: a"),
    renamed,
  );
  assertEquals(service.metadata.labels, { true: "a" });
});
