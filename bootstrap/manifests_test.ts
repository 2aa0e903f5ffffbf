import { assert, assertEquals } from "@std/assert";
import { parseAllDocuments } from "yaml";
import { demoManifest, payloadManifests } from "./manifests.ts";

const CERTIFICATES = {
  caPem: "CA\n",
  server: { certPem: "SERVER CERT\n", keyPem: "SERVER KEY\n" },
  client: { certPem: "CLIENT CERT\n", keyPem: "CLIENT KEY\n" },
};

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

Deno.test("payloadManifests() gives the golden files when nothing is chosen", () => {
  const files = payloadManifests({ certificates: CERTIFICATES });
  assertEquals(Object.keys(files), ["00-openshell.yaml", "10-gateway-demo.yaml"]);
  const elided = files["00-openshell.yaml"].replace(/^( {2}\w+\.(crt|key): ).+$/gm, "$1<elided>");
  assertEquals(elided, GOLDEN_OPENSHELL);
  assertEquals(files["10-gateway-demo.yaml"], GOLDEN_DEMO);
});

Deno.test("payloadManifests() puts each certificate where OpenShell looks for it", () => {
  const [, serverTls, clientCa, clientTls] = parse(
    payloadManifests({ certificates: CERTIFICATES })["00-openshell.yaml"],
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

Deno.test("payloadManifests() leaves the demo out when it is not wanted", () => {
  const files = payloadManifests({ certificates: CERTIFICATES, demo: false });
  assertEquals(Object.keys(files), ["00-openshell.yaml"]);
});

Deno.test("demoManifest() holds no secret", () => {
  assert(!/kind: Secret|data:\n {2}\w+\.(crt|key)/.test(demoManifest({ persistentData: true })));
});

Deno.test("demoManifest() adds a local-path claim at /data when data is to persist", () => {
  const [claim, deployment] = parse(demoManifest({ persistentData: true }));
  assertEquals([claim.kind, claim.metadata.name], ["PersistentVolumeClaim", "gateway-demo-data"]);
  assertEquals(claim.spec.storageClassName, "local-path");
  const pod = deployment.spec.template.spec;
  assertEquals(pod.volumes.at(-1), {
    name: "data",
    persistentVolumeClaim: { claimName: "gateway-demo-data" },
  });
  assertEquals(pod.containers[0].volumeMounts.at(-1), { name: "data", mountPath: "/data" });
});

Deno.test("demoManifest() takes image, node port and seccomp when they are given", () => {
  const [deployment, service] = parse(
    demoManifest({ image: "gateway.local/other:2", nodePort: 30052, seccomp: true }),
  );
  const pod = deployment.spec.template.spec;
  assertEquals(pod.containers[0].image, "gateway.local/other:2");
  assertEquals(pod.securityContext.seccompProfile, { type: "RuntimeDefault" });
  assertEquals(service.spec.ports[0].nodePort, 30052);
});
