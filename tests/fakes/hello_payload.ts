/**
 * A payload of a user's own: one Deployment of an image that every cluster has, with the instance's certificates, on a
 * node port of its own.
 * It must not hold a test.
 *
 * @module
 */
import { join } from "@std/path";

/** Where its service answers on the node. */
export const HELLO_PORT = 30080;

/** What a test changes of it. */
export interface HelloChange {
  /** The pod's image. */
  readonly image?: string;
  /** Mounts the image as a volume, too. */
  readonly volume?: boolean;
  /** An annotation of the pod: another one is another pod. */
  readonly edition?: string;
  /** Names of ConfigMaps beside it. */
  readonly beside?: readonly string[];
  /** A chart beside it, with this as its only template. */
  readonly template?: string;
  /** The payload's own bound. */
  readonly timeoutSeconds?: number;
}

/** Writes the payload's folder. */
export async function writeHello(dir: string, change: HelloChange = {}): Promise<void> {
  const { timeoutSeconds = 1500, beside = [], template } = change;
  await Deno.mkdir(dir, { recursive: true });
  await Deno.writeTextFile(
    join(dir, "payload.yaml"),
    specText(timeoutSeconds, template !== undefined),
  );
  await Deno.mkdir(join(dir, "chart/templates"), { recursive: true });
  await Deno.writeTextFile(join(dir, "chart/Chart.yaml"), CHART);
  await Deno.writeTextFile(join(dir, "chart/templates/one.yaml"), template ?? "");
  const extra = beside.map((name) =>
    `---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, namespace: hello}\n`
  );
  await Deno.writeTextFile(join(dir, "hello.yaml"), objectsText(change) + extra.join(""));
}

const CHART = "apiVersion: v2\nname: extra\nversion: 0.1.0\n";

function specText(timeoutSeconds: number, chart: boolean): string {
  return `\
name: hello
namespace: hello
secrets:
  - name: hello-tls
    type: kubernetes.io/tls
    data: {tls.crt: server.crt, tls.key: server.key}
  - name: hello-clients
    data: {ca.crt: ca.crt}
manifests: [hello.yaml]
${chart ? "charts: [{name: extra, folder: chart, values: {colour: blue}}]\n" : ""}service:
  nodePort: ${HELLO_PORT}
  protocol: https
  health: {path: /, timeoutSeconds: ${timeoutSeconds}}
notes: Ask {instance} at {endpoint}.
`;
}

function objectsText(change: HelloChange): string {
  const { image = "gateway.local/demo:1", edition = "one", volume = false } = change;
  return `\
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, namespace: hello}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: hello}}
  template:
    metadata:
      labels: {app: hello}
      annotations: {gateway.local/reloads-certificates: "true", edition: ${edition}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 2
      securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532}
      containers:
        - name: hello
          image: ${image}
          imagePullPolicy: Never
          ports: [{name: web, containerPort: 8080}]
          readinessProbe: {tcpSocket: {port: web}, periodSeconds: 2, timeoutSeconds: 5}
          volumeMounts:
            - {name: tls, mountPath: /etc/demo-tls, readOnly: true}
            - {name: clients, mountPath: /etc/demo-client-ca, readOnly: true}
            - {name: data, mountPath: /data}
${volume ? "            - {name: image, mountPath: /image}\n" : ""}\
      volumes:
        - {name: tls, secret: {secretName: hello-tls, defaultMode: 288}}
        - {name: clients, secret: {secretName: hello-clients, defaultMode: 288}}
        - {name: data, emptyDir: {sizeLimit: 16Mi}}
${volume ? `        - {name: image, image: {reference: "${image}", pullPolicy: Never}}\n` : ""}\
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: hello}
spec:
  type: NodePort
  selector: {app: hello}
  ports: [{name: web, port: 8080, targetPort: web, nodePort: ${HELLO_PORT}}]
`;
}
