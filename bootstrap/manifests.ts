/**
 * The YAML files that the payload hands to the cluster's auto-deploy folder: namespace and Secrets, and the
 * demo service behind the NodePort. Pure: texts in, texts out; HelmChart objects are never used.
 *
 * @module
 */
import type {
  V1Container,
  V1Deployment,
  V1PersistentVolumeClaim,
  V1Probe,
  V1Service,
} from "@kubernetes/client-node";
import { stringify } from "yaml";
import {
  type ClusterCertificates,
  LABELS,
  NAMESPACE,
  namespaceObject,
  SECRET_NAMES,
  secretObjects,
} from "./secrets.ts";

/** Name of the demo's Deployment and Service. */
export const DEMO_NAME = "gateway-demo";
/** Name of the demo's volume claim, when it has one. */
export const DEMO_CLAIM_NAME = "gateway-demo-data";
/** The image built by rootfs/ and imported at boot. */
export const DEMO_IMAGE = "gateway.local/demo:1";
/** Where the service answers on the node, and by default on the host's loopback. */
export const SERVICE_NODE_PORT = 30051;

/** On a pod whose service takes changed certificates into use by itself: it is not restarted when they change. */
export const RELOADS_ANNOTATION = "gateway.local/reloads-certificates";

const CONTAINER_PORT = 8080;
const PORT_NAME = "grpc";
const UID = 65532;
const DEMO_LABELS = { ...LABELS, "app.kubernetes.io/name": DEMO_NAME };
const SELECTOR = { "app.kubernetes.io/name": DEMO_NAME };

/** Choices of the demo's Deployment; all have defaults. */
export interface DemoOptions {
  /** {@linkcode DEMO_IMAGE} by default. */
  readonly image?: string;
  /** {@linkcode SERVICE_NODE_PORT} by default. */
  readonly nodePort?: number;
  /**
   * True: /data is a local-path claim. Off by default, since binding it slows the first start; /data then lasts as
   * long as the pod.
   */
  readonly persistentData?: boolean;
  /** True: ask for the runtime's default seccomp profile; it needs a runc built with libseccomp. */
  readonly seccomp?: boolean;
}

/** What {@linkcode payloadManifests} makes files of. */
export interface ManifestOptions {
  /** What the Secrets are made of. */
  readonly certificates: ClusterCertificates;
  /** The demo service, or false when the user brings a service of their own. */
  readonly demo?: DemoOptions | false;
}

/**
 * The payload's manifests by file name. Names sort in the order the cluster must apply them. Secret: the first
 * file holds private keys.
 */
export function payloadManifests(options: ManifestOptions): Record<string, string> {
  const files: Record<string, string> = {
    "00-openshell.yaml": toYaml([namespaceObject(), ...secretObjects(options.certificates)]),
  };
  if (options.demo !== false) files["10-gateway-demo.yaml"] = demoManifest(options.demo);
  return files;
}

/** The demo service as one YAML file: the claim (when wanted), the Deployment, the NodePort Service. */
export function demoManifest(options: DemoOptions = {}): string {
  return toYaml([
    ...(options.persistentData ? [demoClaim()] : []),
    demoDeployment(options),
    demoService(options),
  ]);
}

function demoDeployment(options: DemoOptions): V1Deployment {
  const volumes = [
    // 0440 with fsGroup: readable by the demo's group, by nobody else in the pod.
    {
      name: "server-tls",
      secret: { secretName: SECRET_NAMES.serverTls, defaultMode: 0o440 },
    },
    {
      name: "client-ca",
      secret: { secretName: SECRET_NAMES.serverClientCa, defaultMode: 0o440 },
    },
    // The root is read-only, so the demo's counter needs a place even when it is not to last.
    options.persistentData
      ? { name: "data", persistentVolumeClaim: { claimName: DEMO_CLAIM_NAME } }
      : { name: "data", emptyDir: { sizeLimit: "16Mi" } },
  ];
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: DEMO_NAME, namespace: NAMESPACE, labels: { ...DEMO_LABELS } },
    spec: {
      replicas: 1,
      revisionHistoryLimit: 1,
      // One pod at a time: the claim has one writer, and an emulated machine has no room for two.
      strategy: { type: "Recreate" },
      selector: { matchLabels: { ...SELECTOR } },
      template: {
        metadata: { labels: { ...DEMO_LABELS }, annotations: { [RELOADS_ANNOTATION]: "true" } },
        spec: {
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: 10,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: UID,
            runAsGroup: UID,
            fsGroup: UID,
            ...(options.seccomp ? { seccompProfile: { type: "RuntimeDefault" } } : {}),
          },
          containers: [demoContainer(options)],
          volumes,
        },
      },
    },
  };
}

function demoContainer(options: DemoOptions): V1Container {
  return {
    name: "demo",
    image: options.image ?? DEMO_IMAGE,
    imagePullPolicy: "Never",
    ports: [{ name: PORT_NAME, containerPort: CONTAINER_PORT }],
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    // No CPU limit: throttling on top of emulation would make the start slower still.
    resources: {
      requests: { cpu: "10m", memory: "32Mi" },
      limits: { memory: "128Mi" },
    },
    // TCP, since the kubelet has no client certificate to show. Asked every second until it is up, rarely after.
    startupProbe: tcpProbe({ periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 300 }),
    readinessProbe: tcpProbe({ periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 }),
    livenessProbe: tcpProbe({ periodSeconds: 30, timeoutSeconds: 15, failureThreshold: 6 }),
    volumeMounts: [
      { name: "server-tls", mountPath: "/etc/demo-tls", readOnly: true },
      { name: "client-ca", mountPath: "/etc/demo-client-ca", readOnly: true },
      { name: "data", mountPath: "/data" },
    ],
  };
}

function tcpProbe(times: V1Probe): V1Probe {
  return { tcpSocket: { port: PORT_NAME }, ...times };
}

function demoService(options: DemoOptions): V1Service {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: DEMO_NAME, namespace: NAMESPACE, labels: { ...DEMO_LABELS } },
    spec: {
      type: "NodePort",
      selector: { ...SELECTOR },
      ports: [{
        name: PORT_NAME,
        port: CONTAINER_PORT,
        targetPort: PORT_NAME,
        nodePort: options.nodePort ?? SERVICE_NODE_PORT,
      }],
    },
  };
}

function demoClaim(): V1PersistentVolumeClaim {
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: DEMO_CLAIM_NAME, namespace: NAMESPACE, labels: { ...DEMO_LABELS } },
    spec: {
      accessModes: ["ReadWriteOnce"],
      storageClassName: "local-path",
      resources: { requests: { storage: "64Mi" } },
    },
  };
}

/** Documents as one YAML stream; long lines are not folded and no anchors are used, so that any parser reads it. */
function toYaml(documents: readonly object[]): string {
  return documents
    .map((document) => stringify(document, { lineWidth: 0, aliasDuplicateObjects: false }))
    .join("---\n");
}
