import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { parseAllDocuments } from "yaml";
import { GOOD, payloadFolder } from "../../tests/fakes/payload_folder.ts";
import { loadPayload } from "./choose.ts";
import { chartRevision, packedDigest, payloadFiles as filesOf } from "./manifests.ts";
import type { Payload } from "./payload.ts";
import { readPayload } from "./read.ts";

const MATERIAL = {
  certificates: {
    caPem: "CA\n",
    server: { certPem: "SERVER CERT\n", keyPem: "SERVER KEY\n" },
    client: { certPem: "CLIENT CERT\n", keyPem: "CLIENT KEY\n" },
  },
  jwt: { signingPem: "SIGNING\n", publicPem: "PUBLIC\n", kid: "0123" },
};
const demo = await loadPayload("demo");
const payloadFiles = (payload: Payload, material: typeof MATERIAL, charts: Uint8Array[]) =>
  filesOf({ payload, charts, digest: "d1" }, material);
const payloadDigest = (payload: Payload, charts: Uint8Array[], images?: string[]) =>
  packedDigest({ payload, charts }, images);
const ARCHIVE = new Uint8Array([31, 139, 8]);

/** What a test needs of any Kubernetes object. */
// deno-lint-ignore no-explicit-any
type Document = any;

function parse(text: string): Document[] {
  return parseAllDocuments(text).map((document) => document.toJS());
}

const GOLDEN_OPENSHELL = `\
apiVersion: v1
kind: Namespace
metadata:
  name: openshell
  labels:
    app.kubernetes.io/managed-by: gateway
---
apiVersion: v1
kind: Secret
metadata:
  name: openshell-server-tls
  namespace: openshell
  labels:
    app.kubernetes.io/managed-by: gateway
type: kubernetes.io/tls
data:
  tls.crt: <elided>
  tls.key: <elided>
---
apiVersion: v1
kind: Secret
metadata:
  name: openshell-server-client-ca
  namespace: openshell
  labels:
    app.kubernetes.io/managed-by: gateway
type: Opaque
data:
  ca.crt: <elided>
---
apiVersion: v1
kind: Secret
metadata:
  name: openshell-client-tls
  namespace: openshell
  labels:
    app.kubernetes.io/managed-by: gateway
type: Opaque
data:
  ca.crt: <elided>
  tls.crt: <elided>
  tls.key: <elided>
`;

const GOLDEN_DEMO = `\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: gateway-demo
  namespace: openshell
  labels:
    app.kubernetes.io/managed-by: gateway
    app.kubernetes.io/name: gateway-demo
spec:
  replicas: 1
  revisionHistoryLimit: 1
  strategy:
    type: Recreate
  selector:
    matchLabels:
      app.kubernetes.io/name: gateway-demo
  template:
    metadata:
      labels:
        app.kubernetes.io/managed-by: gateway
        app.kubernetes.io/name: gateway-demo
      annotations:
        gateway.local/reloads-certificates: "true"
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 10
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
      containers:
        - name: demo
          image: gateway.local/demo:1
          imagePullPolicy: Never
          ports:
            - name: grpc
              containerPort: 8080
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop:
                - ALL
          resources:
            requests:
              cpu: 10m
              memory: 32Mi
            limits:
              memory: 128Mi
          startupProbe:
            tcpSocket:
              port: grpc
            periodSeconds: 1
            timeoutSeconds: 5
            failureThreshold: 300
          readinessProbe:
            tcpSocket:
              port: grpc
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          livenessProbe:
            tcpSocket:
              port: grpc
            periodSeconds: 30
            timeoutSeconds: 15
            failureThreshold: 6
          volumeMounts:
            - name: server-tls
              mountPath: /etc/demo-tls
              readOnly: true
            - name: client-ca
              mountPath: /etc/demo-client-ca
              readOnly: true
            - name: data
              mountPath: /data
      volumes:
        - name: server-tls
          secret:
            secretName: openshell-server-tls
            defaultMode: 288
        - name: client-ca
          secret:
            secretName: openshell-server-client-ca
            defaultMode: 288
        - name: data
          emptyDir:
            sizeLimit: 16Mi
---
apiVersion: v1
kind: Service
metadata:
  name: gateway-demo
  namespace: openshell
  labels:
    app.kubernetes.io/managed-by: gateway
    app.kubernetes.io/name: gateway-demo
spec:
  type: NodePort
  selector:
    app.kubernetes.io/name: gateway-demo
  ports:
    - name: grpc
      port: 8080
      targetPort: grpc
      nodePort: 30051
`;

Deno.test("payloadFiles() gives the golden files of the demo", () => {
  const files = payloadFiles(demo, MATERIAL, []);
  assertEquals(Object.keys(files), [
    ...["00-openshell.yaml", "10-gateway-demo.yaml", "99-gateway-payload.yaml"],
  ]);
  const elided = files["00-openshell.yaml"]!.replace(
    /("\w+\.(?:crt|key)":)"[^"]+"/g,
    '$1"<elided>"',
  );
  assertEquals(parse(elided), parse(GOLDEN_OPENSHELL));
  assertEquals(parse(files["10-gateway-demo.yaml"]!), parse(GOLDEN_DEMO));
});

Deno.test("payloadFiles() puts each certificate where OpenShell looks for it", () => {
  const [, serverTls, clientCa, clientTls] = parse(
    payloadFiles(demo, MATERIAL, [])["00-openshell.yaml"]!,
  ).map((object) =>
    Object.fromEntries(
      Object.entries(object.data ?? {}).map(([key, value]) => [key, atob(value as string)]),
    )
  );
  assertEquals(serverTls, { "tls.crt": "SERVER CERT\n", "tls.key": "SERVER KEY\n" });
  assertEquals(clientCa, { "ca.crt": "CA\n" });
  assertEquals(clientTls, {
    "ca.crt": "CA\n",
    "tls.crt": "CLIENT CERT\n",
    "tls.key": "CLIENT KEY\n",
  });
});

Deno.test("payloadFiles() keeps Secrets in the first file", () => {
  for (const [name, text] of Object.entries(payloadFiles(demo, MATERIAL, [])).slice(1)) {
    assert(!/"kind":"Secret"|"\w+\.(crt|key)":/.test(text), name);
  }
});

Deno.test("payloadFiles() fills keys that sign tokens, and makes each further namespace but the cluster's", () => {
  const secrets = [
    {
      ...{ name: "keys", type: "Opaque", namespace: "other" },
      data: { "signing.pem": "jwt-signing.pem", "public.pem": "jwt-public.pem", kid: "jwt-kid" },
    },
    { name: "ca", type: "Opaque", namespace: "kube-system", data: { "ca.crt": "ca.crt" } },
  ] as const;
  const objects = parse(payloadFiles({ ...demo, secrets }, MATERIAL, [])["00-openshell.yaml"]!);
  assertEquals(objects.map(({ kind, metadata }) => [kind, metadata.namespace, metadata.name]), [
    ["Namespace", undefined, "openshell"],
    ["Namespace", undefined, "other"],
    ["Secret", "other", "keys"],
    ["Secret", "kube-system", "ca"],
  ]);
  assertEquals(
    Object.values(objects[2].data as Record<string, string>).map(atob),
    ["SIGNING\n", "PUBLIC\n", "0123"],
  );
});

Deno.test("payloadFiles() makes a HelmChart of each chart, after the manifests", () => {
  const charts = [{
    ...{ name: "hello", namespace: "web", values: { replicas: 2, deep: { list: [1, "x"] } } },
    from: { kind: "folder", path: "/nowhere" },
  }] as const;
  const files = payloadFiles({ ...demo, charts }, MATERIAL, [ARCHIVE]);
  assertEquals(Object.keys(files).toSorted(), Object.keys(files));
  const [chart] = parse(files["90-chart-hello.yaml"]!);
  assertEquals([chart.kind, chart.metadata.name, chart.metadata.namespace], [
    ...["HelmChart", "hello", "kube-system"],
  ]);
  const { valuesContent, ...spec } = chart.spec;
  assertEquals(spec, {
    chart: chartRevision(demo, charts[0], ARCHIVE),
    chartContent: "H4sI",
    targetNamespace: "web",
    createNamespace: true,
    jobImage: "gateway.local/helm:1",
  });
  assertEquals(parse(valuesContent), [charts[0].values]);
});

Deno.test("payloadFiles() hands values on with the meaning that Helm's reader gives the user's text", async () => {
  const dir = await payloadFolder({
    "payload.yaml": GOOD.replace(
      "      replicas: 1\n",
      '      country: "NO"\n      flag: "on"\n      code: "1_000"\n      bin: "0b11"\n' +
        "      mode: 0644\n      big: 12345678901234567890\n      enabled: yes\n",
    ),
  });
  const payload = await readPayload(dir);
  const files = payloadFiles(payload, MATERIAL, [ARCHIVE, ARCHIVE]);
  const { spec } = JSON.parse(files["90-chart-chart.yaml"]!);
  assertEquals(
    spec.valuesContent,
    '{"country":"NO","flag":"on","code":"1_000","bin":"0b11","mode":420,"big":12345678901234567890,' +
      '"enabled":true}',
  );
});

Deno.test("chartRevision() differs for another archive, other values and another target namespace", () => {
  const from = { kind: "folder", path: "/nowhere" } as const;
  const chart = { name: "hello", values: { a: 1 }, from };
  const revisions = [
    chartRevision(demo, chart, ARCHIVE),
    chartRevision(demo, chart, new Uint8Array([1])),
    chartRevision(demo, { ...chart, values: { a: 2 } }, ARCHIVE),
    chartRevision(demo, { ...chart, namespace: "web" }, ARCHIVE),
    chartRevision({ ...demo, namespace: "web2" }, chart, ARCHIVE),
  ];
  assertEquals(new Set(revisions).size, revisions.length);
  assertEquals(chartRevision(demo, { ...chart, namespace: demo.namespace }, ARCHIVE), revisions[0]);
});

Deno.test("packedDigest() changes with what the cluster gets, and with no secret", () => {
  const before = payloadDigest(demo, []);
  assertEquals(payloadDigest({ ...demo, dir: "/elsewhere" }, []), before);
  const manifest = demo.manifests[0]!;
  const changes = [
    { manifests: [{ ...manifest, text: `${manifest.text}# more\n` }] },
    { namespace: "other" },
    { secrets: demo.secrets.slice(1) },
    { images: [{ ref: "a.example/b:1", digest: "sha256:00", when: "ready" }] },
  ] as const;
  for (const change of changes) assertNotEquals(payloadDigest({ ...demo, ...change }, []), before);
  assertNotEquals(payloadDigest(demo, [], ["another helm"]), before);
  const image = { ref: "a.example/b:1", digest: "sha256:00" };
  const [ready, later] = (["ready", "later"] as const).map((when) =>
    payloadDigest({ ...demo, images: [{ ...image, when }] }, [])
  );
  assertEquals(ready, later, "when an image comes changes what the cluster gets");
  const files = payloadFiles(demo, MATERIAL, []);
  assertEquals(parse(files["99-gateway-payload.yaml"]!)[0].data, { name: "demo", digest: "d1" });
});
