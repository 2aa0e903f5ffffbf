import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { gunzipSync } from "node:zlib";
import { GOOD, payloadFolder as folder, WEB } from "../../tests/fakes/payload_folder.ts";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { packedChart } from "./files.ts";
import { readPayload } from "./read.ts";
import { readTar } from "./tar.ts";

Deno.test("readPayload() reads a whole payload", async () => {
  const dir = await folder();
  const { digest, manifests, ...payload } = await readPayload(dir);
  assert(/^[0-9a-f]{64}$/.test(digest));
  const service =
    '{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"web"}}';
  const deployment =
    '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"web"}}';
  assertEquals(manifests, [{ name: "web.yaml", text: `${service}\n---\n${deployment}\n` }]);
  assertEquals(payload, {
    name: "hello",
    namespace: "web",
    dir,
    charts: [
      {
        name: "chart",
        version: "1.2.3",
        values: { replicas: 1 },
        from: { kind: "folder", path: join(dir, "charts/one") },
      },
      { name: "packed", values: {}, from: { kind: "archive", path: join(dir, "two.tgz") } },
    ],
    images: [{
      ref: "registry.example/team/hello:1.2",
      digest: `sha256:${"a".repeat(64)}`,
      when: "ready",
    }],
    secrets: [{
      name: "hello-tls",
      type: "kubernetes.io/tls",
      data: { "tls.crt": "server.crt", "tls.key": "server.key" },
    }],
    service: {
      nodePort: 30080,
      protocol: "https",
      health: { path: "/healthz", timeoutSeconds: 60 },
    },
    recreatePodsOf: [],
    notes: "Open {endpoint}.",
  });
});

Deno.test("readPayload() names the account of a login where the payload does not", async () => {
  const dir = await folder({ "payload.yaml": `${GOOD}login: {audience: hello}\n` });
  const { login } = await readPayload(dir);
  assertEquals(login, { audience: "hello", serviceAccount: "gateway-login" });
});

Deno.test("readPayload() gives equal folders one digest, and another one for each changed file", async () => {
  const before = (await readPayload(await folder())).digest;
  assertEquals((await readPayload(await folder({ "beside.txt": "not named" }))).digest, before);
  const changes = [
    { "payload.yaml": `${GOOD}# more\n` },
    { "web.yaml": `${WEB}# more\n` },
    { "charts/one/templates/web.yaml": "b: 1\n" },
    { "charts/one/templates/more.yaml": "b: 1\n" },
  ];
  for (const change of changes) {
    assertNotEquals((await readPayload(await folder(change))).digest, before);
  }
});

Deno.test("packedChart() packs a folder the same way each time, without hidden files", async () => {
  const pack = async (dir: string) => await packedChart((await readPayload(dir)).charts[0]!);
  const first = await pack(await folder());
  assertEquals(await pack(await folder({ "charts/one/.git/x": "y" })), first);
  assertEquals((await readTar(gunzipSync(first))).map(({ name }) => name), [
    ...["chart/Chart.yaml", "chart/templates/web.yaml"],
  ]);
});

/** Manifests that no cluster could take. */
const OBJECTS: readonly (readonly [what: string, text: string, where: string])[] = [
  ["no kind", "apiVersion: v1\nmetadata: {name: a}\n", "web.yaml:1:1: kind: it is missing"],
  [
    "no name, in the second document",
    `${WEB}---\napiVersion: v1\nkind: Pod\nmetadata:\n  labels: {}\n`,
    "web.yaml:14:1: metadata.name: it is missing",
  ],
  ["no object", "# nothing\n", "web.yaml:1:1: it holds no object"],
  ["a list", "- a\n", "web.yaml:1:1: it is no object of Kubernetes"],
  [
    "an object twice",
    `${WEB}---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: web\n`,
    'web.yaml:15:3: metadata.name: the Service "web" comes from web.yaml, too',
  ],
  [
    "the payload's own namespace",
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n",
    'web.yaml:4:3: metadata.name: the Namespace "web" comes from gateway itself, too',
  ],
  [
    "a Secret that payload.yaml makes",
    "apiVersion: v1\nkind: Secret\nmetadata:\n  name: hello-tls\n  namespace: web\n",
    `web.yaml:4:3: metadata.name: the Secret "hello-tls" comes from payload.yaml's secrets, too`,
  ],
  ["a template", "apiVersion: v1\nkind: {{ .Kind }}\n", "web.yaml:2:"],
  [
    "a template as a value",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  t: {{ .Values.x }}\n",
    "web.yaml:5:7: a key has to be a text",
  ],
  [
    "a name that YAML takes for true",
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yes\n",
    "web.yaml:4:3: metadata.name: YAML reads it as true, which is no text",
  ],
  [
    "a name that is a number",
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: 123\n",
    "web.yaml:4:3: metadata.name: YAML reads it as 123, which is no text",
  ],
  [
    "a value that YAML takes for true where only texts may be",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  debug: on\n",
    "web.yaml:5:3: data.debug: YAML reads it as true, which is no text",
  ],
  [
    "a key that comes twice for YAML 1.1",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  n: a\n  no: b\n",
    'web.yaml:6:3: the key "false" comes twice',
  ],
  [
    "a line break of YAML 1.1",
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {s: "a\u2028b"}\n',
    "web.yaml:4:13: it holds U+2028, which is a line break in YAML 1.1",
  ],
  [
    "a control character",
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {s: "a\u0007b"}\n',
    "web.yaml:4:13: it holds the control character U+0007, which no YAML may",
  ],
];

for (const [what, text, where] of OBJECTS) {
  Deno.test(`readPayload() tells the place in a manifest with ${what}`, async () => {
    const dir = await folder({ "web.yaml": text });
    const error = await assertRejects(() => readPayload(dir), GatewayError);
    assertEquals(error.code, "payload-invalid");
    assert(error.why.startsWith(where), error.why);
  });
}

Deno.test("readPayload() hands on manifests as JSON that every reader takes for the same", async () => {
  const object = (data: string) =>
    `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": ${data}}`;
  const handedOn = async (text: string) => {
    const { manifests } = await readPayload(await folder({ "web.yaml": text }));
    return manifests[0]!.text.split("\n---\n").map((one) => JSON.parse(one));
  };
  const [escaped] = await handedOn(object('{"k": "\\ud83d\\ude00", "slash": "a\\/b"}'));
  assertEquals(escaped.data, { k: "😀", slash: "a/b" });
  const [modes] = await handedOn(
    'apiVersion: v1\nkind: X\nmetadata: {name: a}\nspec: {mode: 0644, text: "0644", no: "NO"}\n',
  );
  assertEquals(modes.spec, { mode: 420, text: "0644", false: "NO" });
  const one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
  const two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n";
  const both = await handedOn(`${one}---\t# second\n${two}`);
  assertEquals(both.map(({ metadata }) => metadata.name), ["a", "b"]);
});

Deno.test("readPayload() refuses links that lead out of the folder", async () => {
  const dir = await folder({ "web.yaml": undefined });
  await Deno.symlink("/etc/hostname", join(dir, "web.yaml"));
  const error = await assertRejects(() => readPayload(dir), GatewayError);
  assertEquals(
    error.why,
    `payload.yaml:12:5: manifests[0]: "web.yaml" is a link that leads out of the payload's folder`,
  );
});

Deno.test("readPayload() refuses what is no payload's folder", async () => {
  const empty = await tempDir();
  const missing = join(empty, "missing");
  const why = async (dir: string) =>
    (await assertRejects(() => readPayload(dir), GatewayError)).why;
  assertEquals(await why(missing), "there is no such folder");
  assertEquals(await why(empty), "it holds no payload.yaml");
  await Deno.writeTextFile(missing, "");
  assertEquals(await why(missing), "it is no folder");
});

Deno.test("readPayload() refuses files that are no text, no chart, or too large", async () => {
  const why = async (files: Record<string, string | Uint8Array>) => {
    const dir = await folder(files);
    return (await assertRejects(() => readPayload(dir), GatewayError)).why;
  };
  assertEquals(
    await why({ "web.yaml": new Uint8Array([0xff, 0xfe, 0]) }),
    'payload.yaml:12:5: manifests[0]: "web.yaml" is no UTF-8 text',
  );
  const broken = await why({ "two.tgz": "no archive" });
  assert(broken.startsWith('payload.yaml:10:5: charts[1].archive: "two.tgz" is no packed chart'));
  const nameless = await why({ "charts/one/Chart.yaml": "version: 1.2.3\n" });
  assertEquals(
    nameless,
    'payload.yaml:5:5: charts[0].folder: the Chart.yaml in "charts/one" has no name or no version',
  );
  const random = crypto.getRandomValues.bind(crypto);
  const noise = new Uint8Array(1024 * 1024);
  for (let at = 0; at < noise.length; at += 65_536) random(noise.subarray(at, at + 65_536));
  const large = await why({ "charts/one/noise": noise });
  assert(/charts\[0\]\.folder: packed it has \d+ bytes and a cluster takes 778240$/.test(large));
  const huge = await why({ "web.yaml": `#${" ".repeat(4 * 1024 * 1024)}` });
  assert(huge.endsWith("bytes and 4194304 are the most"), huge);
});

Deno.test("readPayload() takes the whole example of docs/payload.md", async () => {
  const text = await Deno.readTextFile(sourcePath("docs/payload.md"));
  const example = /```yaml\n(name: hello[\s\S]*?)```/.exec(text)![1];
  const dir = await folder({
    "payload.yaml": example,
    "hello.yaml": WEB.replaceAll(": web", ": hello"),
    "charts/cache/Chart.yaml": "apiVersion: v2\nname: cache\nversion: 1.2.3\n",
  });
  const { charts, images, secrets, service } = await readPayload(dir);
  assertEquals([charts.length, images.length, secrets.length, service.nodePort], [2, 1, 2, 30080]);
});
