/**
 * Properties of the files that the product reads: vm.json, payload.yaml, registries.yaml, a guest's kubeconfig, memory layers.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import fc from "fast-check";
import { readCredentials, renderKubeconfig } from "../../bootstrap/cluster/kubeconfig.ts";
import { parseRegistries } from "../../bootstrap/images/registries.ts";
import { parseSpec } from "../../bootstrap/payload/schema.ts";
import { toJsonText } from "../../bootstrap/yaml/kube_yaml.ts";
import { YamlSource } from "../../bootstrap/yaml/source.ts";
import { parseVmSpec, type VmSpec } from "../../vm/machine/spec.ts";
import { checkLayer } from "../../vm/qemu/ram_layer.ts";
import { mutated, property, readOrRefused } from "./properties.ts";

const YAML_WORDS = [
  ..."{ } [ ] : , - ? & * # | > ! % @ ` ' ~ < . 0 1 -1 1e9 0o7 null true yes .nan .inf".split(" "),
  ...[
    "&a ",
    "*a",
    "<<: *a\n",
    "\n",
    "  ",
    "\t",
    "---\n",
    "...\n",
    "!!binary ",
    "!!int ",
    '"',
    "\u0085",
  ],
  ...["__proto__", "constructor", "\ud800", "\ufeff", "\0"],
];
/** Nested deeper than any reader has room for on its stack. */
const DEEP = [
  ...["[", "{a: ", "- ", "? "].map((open) => open.repeat(20_000)),
  Array.from({ length: 3000 }, (_, depth) => `${" ".repeat(depth)}a:\n`).join(""),
];
/** A few lines that unfold to 9^9 values. */
const BOMB = [
  "a0: &a0 [x]",
  ...Array.from({ length: 9 }, (_, at) => {
    const inner = Array(9).fill(`*a${at}`).join(", ");
    return `a${at + 1}: &a${at + 1} [${inner}]`;
  }),
].join("\n");
const alone = (texts: readonly string[]) => texts.map((text): [string] => [text]);

const MACHINE: VmSpec = {
  ...{ schemaVersion: 1, name: "default", cpus: 2, memoryMiB: 4096 },
  kernel: { path: "/a/vmlinux", format: "elf", cmdline: "quiet" },
  ram: { layers: ["/i/ram-1.layer"] },
  incoming: { devicesPath: "/i/dev-1.bin" },
  disks: [{ serial: "root", path: "/a/root.erofs", format: "raw", readonly: true }],
  net: { socketPath: "/r/net", transport: "stream", mac: "5a:94:ef:e4:0c:ee" },
  consolePorts: [{ name: "gw.control", socketPath: "/r/control" }],
  ...{ consoleLogPath: "/i/console.log", runtimeDir: "/r", vmmLogPath: "/i/vmm.log" },
};

const PAYLOADS = [
  `name: hello
namespace: hello
charts: [{name: hello, folder: chart, values: &v {replicas: 1, nested: {on: yes}}}]
manifests: [hello.yaml]
patches: [{kind: Deployment, name: hello, patch: [{op: replace, path: /spec/replicas, value: 2}]}]
images: [{ref: "ghcr.io/example/hello:1.2", digest: "sha256:${"0".repeat(64)}", when: later}]
secrets: [{name: hello-tls, data: {tls.crt: server.crt}}]
service: {nodePort: 30080, protocol: http, health: {path: /healthz, timeoutSeconds: 30}}
login: {audience: hello}
recreatePodsOf: [Sandbox.agents.x-k8s.io]
notes: Open {endpoint} in a browser.
`,
  BOMB,
];

const REGISTRIES = [
  `mirrors:
  docker.io: {endpoint: ["https://a.example/x", "b:5000"], rewrite: {"^(.*)$": "p/$1"}}
  "*": {endpoint: [localhost:5000]}
configs:
  a.example: {auth: {username: 0123, password: on}, tls: {ca_file: ca.crt, insecure_skip_verify: yes}}
`,
  "mirrors: &a {x: *a}",
  "mirrors: *nothing",
  "mirrors: {..: {}, a/b: {}, '': {}, _default: {}}",
  BOMB,
];

const pem = btoa("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n");
const KUBECONFIG = `apiVersion: v1
kind: Config
clusters:
- cluster: {certificate-authority-data: ${pem}, server: https://127.0.0.1:6443}
  name: default
users:
- name: default
  user: {client-certificate-data: ${pem}, client-key-data: ${pem}}
`;

const readPayload = (text: string) => parseSpec(new YamlSource("/p", "payload.yaml", text));

const PAGE = 4096;
const MEMORY_PAGES = 256;
const dir = await Deno.makeTempDir({ prefix: "gateway-layers-" });
globalThis.addEventListener("unload", () => Deno.removeSync(dir, { recursive: true }));

/** A layer's head with any numbers in it, of a file that is as long as it should be or not. */
const layer = fc.record({
  magic: fc.oneof({ weight: 9, arbitrary: fc.constant("GWRAMLR1") }, fc.string({ maxLength: 8 })),
  page: fc.oneof({ weight: 9, arbitrary: fc.constant(PAGE) }, fc.nat()),
  memory: fc.oneof({ weight: 9, arbitrary: fc.constant(MEMORY_PAGES * PAGE) }, fc.nat()),
  extents: fc.array(
    fc.tuple(
      fc.oneof(fc.nat(MEMORY_PAGES + 1), fc.nat(0xffffffff)),
      fc.oneof(fc.nat(4), fc.nat(0xffffffff)),
    ),
    { maxLength: 5 },
  ),
  sorted: fc.boolean(),
  pages: fc.option(fc.nat(20)),
  cut: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(2 * PAGE)),
});

function layerFile(one: typeof layer extends fc.Arbitrary<infer T> ? T : never) {
  const extents = one.sorted ? one.extents.toSorted(([a], [b]) => a - b) : one.extents;
  const head = new Uint8Array(PAGE);
  new TextEncoder().encodeInto(one.magic, head.subarray(0, 8));
  const view = new DataView(head.buffer);
  view.setUint32(8, one.page, true);
  view.setUint32(12, extents.length, true);
  view.setBigUint64(16, BigInt(one.memory), true);
  extents.forEach(([first, count], at) => {
    view.setUint32(24 + at * 8, first, true);
    view.setUint32(28 + at * 8, count, true);
  });
  const sum = extents.reduce((total, [, count]) => total + count, 0);
  const size = Math.max(0, (1 + (one.pages ?? sum)) * PAGE - one.cut);
  return { head: head.subarray(0, size), size, extents, sum };
}

/** The files' properties. */
export const FILE_PROPERTIES = [
  property(
    "parseVmSpec() reads what was written and refuses the rest by a GatewayError",
    [mutated([JSON.stringify(MACHINE)], [
      '"',
      "{",
      "[",
      "]",
      "}",
      ",",
      ":",
      "null",
      "1e999",
      "-1",
    ])],
    async (text) => {
      const found = await readOrRefused(() => parseVmSpec(text, "vm.json"));
      if (found === undefined) return;
      assertEquals(parseVmSpec(JSON.stringify(found), "vm.json"), found);
    },
    alone([JSON.stringify(MACHINE), "[".repeat(200_000), '{"__proto__":1}', "null"]),
  ),
  property(
    "parseSpec() takes or refuses any payload.yaml",
    [mutated(PAYLOADS, YAML_WORDS)],
    async (text) => {
      const found = await readOrRefused(() => readPayload(text));
      // JSON is YAML: written so, it says the same.
      if (found) assertEquals(readPayload(toJsonText(found)), found);
    },
    alone([...PAYLOADS, ...DEEP]),
  ),
  property(
    "parseRegistries() takes or refuses any registries.yaml",
    [mutated(REGISTRIES, YAML_WORDS)],
    async (text) => {
      await readOrRefused(() => parseRegistries(text, "/c/registries.yaml"));
    },
    alone([...REGISTRIES, ...DEEP]),
  ),
  property(
    "parseRegistries() reads its own result again",
    [mutated(REGISTRIES.slice(0, 1), YAML_WORDS)],
    async (text) => {
      const found = await readOrRefused(() => parseRegistries(text, "/c/registries.yaml"));
      if (found) assertEquals(parseRegistries(toJsonText(found), "/c/registries.yaml"), found);
    },
  ),
  property(
    "readCredentials() takes or refuses any kubeconfig, and renderKubeconfig() gives the same ones",
    [mutated([KUBECONFIG], YAML_WORDS)],
    async (text) => {
      const found = await readOrRefused(() => readCredentials(text));
      if (!found) return;
      const own = renderKubeconfig(text, 30051, { instance: "dev", instanceDir: "/i" });
      assertEquals(readCredentials(own), found);
      assert(own.includes("https://127.0.0.1:30051") && !own.includes("6443"));
    },
    alone([KUBECONFIG, BOMB, ...DEEP]),
  ),
  property("checkLayer() takes what a save writes and nothing else", [layer], async (one) => {
    const { head, size, extents, sum } = layerFile(one);
    if (size > 2 ** 40) return;
    const path = join(dir, "one.layer");
    await Deno.writeFile(path, head);
    await Deno.truncate(path, size);
    let next = 0;
    const ordered = extents.every(([first, count]) => {
      const fits = first >= next && count > 0 && first + count <= MEMORY_PAGES;
      next = first + count;
      return fits;
    });
    const right = ordered && one.magic === "GWRAMLR1" && one.page === PAGE &&
      one.memory === MEMORY_PAGES * PAGE && size === (1 + sum) * PAGE;
    const refused = await readOrRefused(async () => {
      await checkLayer(path, MEMORY_PAGES * PAGE / 1024 / 1024);
      return false;
    }) ?? true;
    assertEquals(refused, !right);
  }),
];
