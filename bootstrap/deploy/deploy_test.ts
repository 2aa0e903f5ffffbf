import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { balancerAddress, nodeAddress, outerService, parseAddress } from "./address.ts";
import { deploymentPlace } from "./certificates.ts";
import { diffLines, isSame, objectDiff } from "./diff.ts";
import { checkImages } from "./images.ts";
import { inventoryObject, joinObjects, staleObjects } from "./inventory.ts";
import type { KubeObject } from "../cluster/api.ts";
import {
  CERTIFICATES_ANNOTATION,
  idOf,
  imagesOf,
  readObjects,
  withCertificateMark,
  withImagePrefix,
} from "./objects.ts";

const object = (kind: string, name: string, more: Record<string, unknown> = {}) => ({
  ...{ apiVersion: "v1", kind, metadata: { name } },
  ...more,
});

Deno.test("readObjects() takes lists apart, drops empty documents and orders by kind", () => {
  const text = [
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}",
    "",
    "kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: s}}\n" +
    "- {apiVersion: v1, kind: Namespace, metadata: {name: web}}",
  ].join("\n---\n");
  const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: k}";
  assertEquals(readObjects([text, secret]).map(({ kind }) => kind), [
    ...["Namespace", "Secret", "Service", "Deployment"],
  ]);
});

Deno.test("readObjects() reads modes and integers as kubectl does", () => {
  const [secret] = readObjects([
    "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nmode: 0400\nquoted: '0400'\nbig: 9007199254740993",
  ]) as unknown as Record<string, unknown>[];
  assertEquals([secret?.mode, secret?.quoted, secret?.big], [256, "0400", 9007199254740993n]);
});

for (
  const [text, why] of [
    ["a: [", "it is not YAML"],
    [
      "a: {{ x }}",
      "a key has to be a text; for a template such as {{ … }} put the value into quotes",
    ],
    ["apiVersion: v1\nkind: Pod\nmetadata: {name: on}", "a Pod has no name"],
    ["a: 1", "one of its documents has no apiVersion or kind"],
    ["apiVersion: v1\nkind: Pod", "a Pod has no name"],
    [
      "{apiVersion: v1, kind: Pod, metadata: {name: p}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: p}}",
      'it holds Pod "p" twice',
    ],
  ] as const
) {
  Deno.test(`readObjects() refuses a text: ${why}`, () => {
    assertEquals(assertThrows(() => readObjects([text]), GatewayError).why, why);
  });
}

const workload = (image: string, secretName?: string): KubeObject => ({
  ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "d" } },
  spec: {
    template: {
      spec: {
        containers: [{ name: "c", image, imagePullPolicy: "Never" }],
        ...(secretName ? { volumes: [{ name: "v", secret: { secretName } }] } : {}),
      },
    },
  },
});

Deno.test("withImagePrefix() moves the images built here and no others", () => {
  const moved = withImagePrefix(
    [workload("gateway.local/demo:1"), workload("other.example/demo:1")],
    "reg.example/x/",
  );
  assertEquals(moved.map(imagesOf), [["reg.example/x/demo:1"], ["other.example/demo:1"]]);
  const policies = moved.map(({ spec }) => spec.template.spec.containers[0].imagePullPolicy);
  assertEquals(policies, ["IfNotPresent", "Never"]);
});

Deno.test("withCertificateMark() marks pods that use a Secret of the payload, once per set", () => {
  const secret = object("Secret", "tls") as KubeObject;
  const mark = (certificates: string[], name?: string) =>
    withCertificateMark([secret, workload("x", name)], certificates)[1]!.spec.template.metadata
      ?.annotations?.[CERTIFICATES_ANNOTATION];
  assertEquals(mark(["a"], "tls"), mark(["a"], "tls"));
  assertEquals(mark(["a"], "tls") === mark(["b"], "tls"), false);
  assertEquals([mark(["a"]), mark(["a"], "other")], [undefined, undefined]);
});

Deno.test("parseAddress() reads hosts and ports", () => {
  assertEquals(parseAddress("GW.example:443"), { host: "gw.example", port: 443 });
  assertEquals(parseAddress("192.0.2.1"), { host: "192.0.2.1" });
  for (const bad of ["", "a b", "a:0", "a:1:2", "[::1]:5", "1.2.3", "-a"]) {
    assertThrows(() => parseAddress(bad), GatewayError, "Cannot use --address");
  }
});

const node = (name: string, ready: string, ...addresses: [string, string][]): KubeObject => ({
  ...object("Node", name) as KubeObject,
  status: {
    conditions: [{ type: "Ready", status: ready }],
    addresses: addresses.map(([type, address]) => ({ type, address })),
  },
});

Deno.test("nodeAddress() prefers what it was, then an outer address of a ready node", () => {
  const nodes = [
    node("c", "False", ["ExternalIP", "192.0.2.1"]),
    node("b", "True", ["InternalIP", "192.0.2.2"], ["ExternalIP", "192.0.2.3"]),
    node("a", "True", ["InternalIP", "192.0.2.4"], ["InternalIP", "2001:db8::1"]),
  ];
  assertEquals(nodeAddress(nodes, undefined), "192.0.2.3");
  assertEquals(nodeAddress(nodes, "192.0.2.4"), "192.0.2.4");
  assertEquals(nodeAddress(nodes, "192.0.2.1"), "192.0.2.3");
  assertEquals(nodeAddress([], undefined), undefined);
});

Deno.test("outerService() and balancerAddress() find the way in", () => {
  const service = (name: string, spec: unknown, status?: unknown) =>
    object("Service", name, { spec, status }) as KubeObject;
  const inner = service("inner", { type: "ClusterIP", ports: [{ port: 1 }] });
  const outer = service("lb", { type: "LoadBalancer", ports: [{ port: 443 }] }, {
    loadBalancer: { ingress: [{ ip: "192.0.2.9" }] },
  });
  const fixed = service("np", { type: "NodePort", ports: [{ port: 1, nodePort: 30051 }] });
  assertEquals(outerService([inner, outer, fixed], 30051)?.metadata.name, "np");
  assertEquals(outerService([inner, outer, fixed], 30052)?.metadata.name, "lb");
  assertEquals(outerService([inner], 30051), undefined);
  assertEquals(balancerAddress(outer), { host: "192.0.2.9", port: 443 });
  assertEquals(balancerAddress(service("lb", outer.spec)), undefined);
});

Deno.test("diffLines() shows changes with three lines around them", () => {
  const before = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const after = ["a", "b", "c", "d", "e", "F", "g", "h"];
  assertEquals(diffLines(before, after), [" c", " d", " e", "-f", "+F", " g", " h"]);
  assertEquals(diffLines(before, before), []);
  assertEquals(diffLines([], ["x"]), ["+x"]);
});

Deno.test("objectDiff() leaves out what the server adds, and what is in a Secret", () => {
  const live = {
    ...{ apiVersion: "v1", kind: "Secret", type: "Opaque" },
    metadata: {
      ...{ name: "s", uid: "u", resourceVersion: "1", managedFields: [] },
      annotations: { "kubectl.kubernetes.io/last-applied-configuration": "T0xE" },
    },
    data: { same: "QUFB", other: "T0xE", gone: "R09ORQ==" },
    status: { x: 1 },
  };
  const after = {
    ...{ apiVersion: "v1", kind: "Secret", type: "Opaque", metadata: { name: "s" } },
    data: { same: "QUFB", other: "TkVX", added: "QURERUQ=" },
  };
  const text = objectDiff(live, after);
  assertEquals(text.split("\n").filter((line) => !line.startsWith(" ")), [
    "-  gone: (hidden)",
    "-  other: (hidden, before)",
    "+  added: (hidden)",
    "+  other: (hidden, after)",
  ]);
  for (const value of ["QUFB", "T0xE", "TkVX", "R09ORQ", "QURERUQ"]) {
    assertEquals(text.includes(value), false, value);
  }
  assertEquals(isSame(live, { ...live, metadata: { name: "s" }, status: { x: 2 } }), true);
  assertEquals(isSame(live, after), false);
});

Deno.test("objectDiff() tells long values by their length", () => {
  const chart = (text: string) =>
    object("HelmChart", "h", { spec: { chartContent: text.repeat(400) } }) as KubeObject;
  assertStringIncludes(objectDiff(chart("a"), chart("b")), "(400 characters, ");
});

Deno.test("staleObjects() gives what left the payload, newest first, and no namespace", () => {
  const ids = ["Namespace", "ConfigMap", "Secret", "Service"].map((kind) =>
    idOf(object(kind, "x") as KubeObject)
  );
  assertEquals(staleObjects(ids, [ids[2]!]).map(({ kind }) => kind), ["Service", "ConfigMap"]);
  // The same object in another version of its kind is not another one.
  const old = { apiVersion: "apps/v1beta1", kind: "Deployment", name: "d" };
  assertEquals(staleObjects([old], [{ ...old, apiVersion: "apps/v1" }]), []);
  assertEquals(joinObjects([old], [{ ...old, apiVersion: "apps/v1" }]).length, 1);
});

Deno.test("inventoryObject() holds names and no values", () => {
  const { data } = inventoryObject("n", "p", {
    objects: [idOf(object("Secret", "s", { data: { k: "v4lue" } }) as KubeObject)],
    ownsNamespace: true,
  });
  assertEquals(JSON.parse(data.inventory), {
    ...{ version: 1, ownsNamespace: true },
    objects: [{ apiVersion: "v1", kind: "Secret", name: "s" }],
  });
});

Deno.test("checkImages() is quiet, warns or refuses by what the nodes tell", () => {
  const objects = [workload("gateway.local/demo:1")];
  const told = (...names: string[]) => [{
    ...object("Node", "n") as KubeObject,
    status: { images: names.map((name) => ({ names: [name] })) },
  }];
  assertEquals(checkImages([workload("other.example/x:1")], undefined), {});
  assertEquals(checkImages(objects, told("gateway.local/demo:1")), {});
  assertStringIncludes(checkImages(objects, undefined).warning!, "--image-prefix");
  const full = told(...Array.from({ length: 50 }, (_, at) => `x/${at}`));
  assertStringIncludes(checkImages(objects, full).warning!, "do not tell");
  const error = assertThrows(() => checkImages(objects, told("x/y")), GatewayError);
  assertEquals(error.code, "not-supported");
});

Deno.test("deploymentPlace() gives each context a folder of its own", () => {
  const name = (context: string) => deploymentPlace(context).name;
  assertEquals(name("prod-1"), "prod-1");
  const odd = ["Prod-1", "prod/1", "arn:aws:eks:x/y", "ü", "../.."].map(name);
  assertEquals(new Set([...odd, "prod-1"]).size, 6);
  for (const one of odd) assertEquals(/^[a-z0-9][a-z0-9-]*$/.test(one), true, one);
});
