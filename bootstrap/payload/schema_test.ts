import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { GOOD, payloadFolder as folder } from "../../tests/fakes/payload_folder.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { readPayload } from "./read.ts";

/** What is wrong, where it is said to be, and what is to be read of it. */
const FAULTS: readonly (readonly [
  what: string,
  change: readonly [from: string | RegExp, to: string],
  where: string,
  fix: string,
])[] = [
  [
    "an unknown field",
    ["namespace: web\n", "namespace: web\nnamspace: x\n"],
    "payload.yaml:3:1: namspace: there is no such field",
    "remove it, or use one of name, namespace, charts, manifests, patches, images, secrets, service, login, recreatePodsOf, notes",
  ],
  [
    "a login without an audience",
    ["notes:", "login: {}\nnotes:"],
    "payload.yaml:28:1: login.audience: it is missing",
    "add it, such as `audience: hello`",
  ],
  [
    "a login that is tried by gRPC where no gRPC is spoken",
    ["notes:", "login: {audience: hello, grpcMethod: a.B/C}\nnotes:"],
    "payload.yaml:28:26: login.grpcMethod: a service that speaks https is not asked that way",
    "leave it out, or make the protocol grpcs",
  ],
  [
    "a login without TLS",
    [/protocol: https([^]*)notes:/, "protocol: http$1login: {audience: hello}\nnotes:"],
    "payload.yaml:28:1: login: a service that speaks http would be sent the token in the clear",
    "leave it out, or make the protocol https or grpcs",
  ],
  [
    "an unknown field deep inside",
    ["    path: /healthz", "    pat: /healthz"],
    "payload.yaml:26:5: service.health.pat: there is no such field",
    "remove it, or use one of path, grpcService, grpcMethod, timeoutSeconds",
  ],
  [
    "an unknown field of an entry",
    ["    folder: charts/one\n", "    folder: charts/one\n    valuse: {}\n"],
    "payload.yaml:6:5: charts[0].valuse: there is no such field",
    "remove it, or use one of name, namespace, version, folder, archive, oci, digest, values",
  ],
  [
    "a missing digest of an image",
    [/ {4}digest: .*\n/, ""],
    "payload.yaml:14:5: images[0].digest: it is missing",
    "add it, such as `digest: sha256:<64 hexadecimal digits>`",
  ],
  [
    "a digest that nobody has verified",
    [/digest: .*/, "digest: null"],
    "payload.yaml:15:5: images[0].digest: it is null, so nobody has verified it yet",
    "write it in its form, such as `digest: sha256:<64 hexadecimal digits>`",
  ],
  [
    "an image at another time",
    [/digest: (.*)/, "digest: $1\n    when: never"],
    "payload.yaml:16:5: images[0].when: it is none of ready, later",
    "write it in its form, such as `when: later`",
  ],
  [
    "a digest in another form",
    [/digest: .*/, "digest: sha256:abc"],
    "payload.yaml:15:5: images[0].digest: it is no sha256 digest",
    "write it in its form, such as `digest: sha256:<64 hexadecimal digits>`",
  ],
  [
    "a chart of a registry without digest",
    ["folder: charts/one\n", "oci: registry.example/charts/one:1.2.3\n"],
    "payload.yaml:4:5: charts[0].digest: it is missing",
    "add it, such as `digest: sha256:<64 hexadecimal digits>`",
  ],
  [
    "a name in capitals",
    ["name: hello\n", "name: Hello\n"],
    "payload.yaml:1:1: name: only a-z, 0-9 and - inside are allowed",
    "write it in its form, such as `name: hello`",
  ],
  [
    "a missing field at the top",
    ["namespace: web\n", ""],
    "payload.yaml:1:1: namespace: it is missing",
    "add it, such as `namespace: hello`",
  ],
  [
    "a value of another type",
    ["nodePort: 30080", "nodePort: http"],
    "payload.yaml:23:3: service.nodePort: it is a text and has to be a number",
    "write it in its form, such as `nodePort: 30080`",
  ],
  [
    "a node port outside the range",
    ["nodePort: 30080", "nodePort: 8080"],
    "payload.yaml:23:3: service.nodePort: node ports begin at 30000",
    "write it in its form, such as `nodePort: 30080`",
  ],
  [
    "an unknown protocol",
    ["protocol: https", "protocol: grpc"],
    "payload.yaml:24:3: service.protocol: it is none of https, grpcs, http, tcp",
    "write it in its form, such as `protocol: https`",
  ],
  [
    "a path for a service that speaks no HTTP",
    ["protocol: https", "protocol: tcp"],
    "payload.yaml:26:5: service.health.path: a service that speaks tcp is not asked that way",
    "leave it out, or make the protocol http or https",
  ],
  [
    "a method for a service that speaks no gRPC",
    ["path: /healthz", "grpcMethod: a.B/Health"],
    "payload.yaml:26:5: service.health.grpcMethod: a service that speaks https is not asked that way",
    "leave it out, or make the protocol grpcs",
  ],
  [
    "a method that is none",
    ["path: /healthz", "grpcMethod: /a.B/Health"],
    "payload.yaml:26:5: service.health.grpcMethod: it is no method in the form package.Service/Method",
    "write it in its form, such as `grpcMethod: hello.v1.Hello/Health`",
  ],
  [
    "an owner's kind without its group",
    ["namespace: web\n", "namespace: web\nrecreatePodsOf: [Sandbox]\n"],
    "payload.yaml:3:18: recreatePodsOf[0]: it is no Kind.group",
    "write it in its form, such as `Sandbox.agents.x-k8s.io`",
  ],
  [
    "a Secret's entry of an unknown source",
    ["tls.key: server.key", "tls.key: ca.key"],
    "payload.yaml:21:7: secrets[0].data.tls.key: it is none of ca.crt, server.crt",
    "write it in its form, such as `tls.crt: server.crt`",
  ],
  [
    "a manifest that is not there",
    ["- web.yaml", "- wep.yaml"],
    'payload.yaml:12:5: manifests[0]: "wep.yaml" is not there',
    "correct the path; it starts at the payload's folder",
  ],
  [
    "a manifest outside of the folder",
    ["- web.yaml", "- ../web.yaml"],
    "payload.yaml:12:5: manifests[0]: it leads out of the payload's folder",
    "write it in its form, such as `- manifests/hello.yaml`",
  ],
  [
    "a manifest from the root on",
    ["- web.yaml", "- /etc/passwd.yaml"],
    "payload.yaml:12:5: manifests[0]: it is not below the payload's folder",
    "write it in its form, such as `- manifests/hello.yaml`",
  ],
  [
    "the same manifest twice",
    ["- web.yaml", "- web.yaml\n  - ./web.yaml"],
    "payload.yaml:13:5: manifests[1]: a file of that name is manifests[0] already",
    "give it another name, whatever folder it is in",
  ],
  [
    "two charts of one name",
    ["name: packed", "name: chart"],
    "payload.yaml:9:5: charts[1]: a chart of that name is charts[0] already",
    "give it another name",
  ],
  [
    "a chart from two places",
    ["archive: two.tgz", "archive: two.tgz\n    folder: charts/one"],
    "payload.yaml:9:5: charts[1]: it names folder and archive, and a chart has one source",
    "name one of folder, archive and oci",
  ],
  [
    "a chart from nowhere",
    ["    archive: two.tgz\n", ""],
    "payload.yaml:9:5: charts[1]: it says nowhere where the chart comes from",
    "name one of folder, archive and oci",
  ],
  [
    "another version of a chart",
    ['version: "1.2.3"', 'version: "1.2.4"'],
    'payload.yaml:6:5: charts[0].version: the chart in "charts/one" has the version 1.2.3',
    'write version: "1.2.3", or take the chart that was meant',
  ],
  [
    "a chart's folder without a chart",
    ["folder: charts/one", "folder: charts"],
    'payload.yaml:5:5: charts[0].folder: "charts" holds no Chart.yaml',
    "name the folder or archive of a Helm chart",
  ],
  [
    "an archive with another digest",
    ["archive: two.tgz", `archive: two.tgz\n    digest: sha256:${"b".repeat(64)}`],
    'payload.yaml:11:5: charts[1].digest: "two.tgz" has the digest sha256:',
    "take the archive that was meant, or its digest",
  ],
  [
    "an image without its registry",
    ["registry.example/team/hello:1.2", "team/hello:1.2"],
    "payload.yaml:14:5: images[0].ref: it does not name its registry",
    "write it in its form, such as `ref: ghcr.io/example/hello:1.2`",
  ],
  [
    "an image of gateway's own",
    ["registry.example/team/hello:1.2", "gateway.local/demo:1"],
    "payload.yaml:14:5: images[0].ref: gateway brings that image itself",
    "write it in its form, such as `ref: ghcr.io/example/hello:1.2`",
  ],
  [
    "text that is no YAML",
    ["namespace: web", "namespace: [web"],
    "payload.yaml:",
    "correct the YAML there; nested lines are indented by spaces, and a key comes once",
  ],
  [
    "a key that comes twice",
    ["namespace: web\n", "namespace: web\nname: again\n"],
    "payload.yaml:3:1: Map keys must be unique",
    "correct the YAML there; nested lines are indented by spaces, and a key comes once",
  ],
  [
    "several documents",
    ["notes: Open", "---\nnotes: Open"],
    "payload.yaml:29:1: it holds several documents",
    "leave one; objects of Kubernetes belong into files that manifests names",
  ],
  [
    "a list instead of fields",
    [/^[\s\S]*$/, "- a\n"],
    "payload.yaml:1:1: it holds no fields",
    "begin with name, namespace and service; docs/payload.md has a whole example",
  ],
  [
    "nothing",
    [/^[\s\S]*$/, "# nothing yet\n"],
    "payload.yaml:1:1: it is empty",
    "begin with name, namespace and service; docs/payload.md has a whole example",
  ],
];

for (const [what, [from, to], where, fix] of FAULTS) {
  Deno.test(`readPayload() tells the place of ${what}`, async () => {
    const text = GOOD.replace(from, to);
    assertNotEquals(text, GOOD);
    const dir = await folder({ "payload.yaml": text });
    const error = await assertRejects(() => readPayload(dir), GatewayError);
    assertEquals([error.code, error.what], ["payload-invalid", `Cannot use the payload "${dir}"`]);
    assert(error.why.startsWith(where), error.why);
    assertEquals(error.fix, fix);
  });
}

Deno.test("readPayload() tells the first of several faults, and how many more there are", async () => {
  const text = GOOD.replace("name: hello", "name: Hello").replace("30080", "80");
  const dir = await folder({ "payload.yaml": text });
  const error = await assertRejects(() => readPayload(dir), GatewayError);
  assertEquals(
    error.why,
    "payload.yaml:1:1: name: only a-z, 0-9 and - inside are allowed (and 1 more to correct)",
  );
});
