/**
 * What stands for agent-sandbox's release manifest: as large as the real one (400 KB, nearly all of it a kind's schema
 * with descriptions), with comments, two versions of the kind and the webhook that converts between them.
 * It must not hold the controller; the Go module beside it does.
 *
 * @module
 */

/** The controller's image, as the manifest names it. */
export const CONTROLLER_IMAGE = "registry.k8s.io/agent-sandbox/agent-sandbox-controller:v0.5.0";

/** Fields of a pod template that the real schema spells out; their text is most of the manifest. */
const FIELDS = [
  ...[
    "affinity",
    "dnsConfig",
    "ephemeralContainers",
    "initContainerStatuses",
    "lifecycle",
    "livenessProbe",
  ],
  ...[
    "nodeAffinity",
    "overhead",
    "podAffinity",
    "podAntiAffinity",
    "preemptionPolicy",
    "readinessGates",
  ],
  ...["resourceClaims", "schedulingGates", "startupProbe"],
];
const PARTS = [
  ...[
    "config",
    "constraint",
    "device",
    "expression",
    "factor",
    "gate",
    "handler",
    "item",
    "key",
    "limit",
    "match",
  ],
  ...[
    "name",
    "operator",
    "path",
    "quota",
    "reference",
    "selector",
    "term",
    "unit",
    "value",
    "weight",
    "zone",
  ],
];

/** The schema of one made-up field: objects in objects, with a description of some lines each. */
function field(name: string, indent: string): string {
  const text = (of: string) => [
    `${indent}      description: |-`,
    `${indent}        ${of} of ${name} is taken as it is and handed to the pod. Kubernetes' own reference says what it means,`,
    `${indent}        which values it has and what happens: "it's ignored", 'refused', or a default # such as 0644, no, 1e3.`,
  ];
  return [
    `${indent}${name}:`,
    `${indent}  type: object`,
    `${indent}  properties:`,
    ...PARTS.flatMap((part) => [
      `${indent}    ${part}:`,
      ...text(part),
      `${indent}      type: object`,
      `${indent}      properties:`,
      `${indent}        mode:`,
      `${indent}          type: string`,
      `${indent}          enum: ["", "no", "0644"]`,
    ]),
  ].join("\n");
}

/** The schema of one version; `mode` is the only field in which the two differ. */
function version(name: string, storage: boolean, mode: string): string {
  return `
    # ${name}
    - name: ${name}
      served: true
      storage: ${storage}
      additionalPrinterColumns:
        - name: Ready
          type: string
          jsonPath: .status.conditions[?(@.type=="Ready")].status
      subresources:
        status: {}
      schema:
        openAPIV3Schema:
          description: Sandbox is one pod with volumes of its own that keeps its name.
          type: object
          required: [spec]
          properties:
            apiVersion:
              type: string
            kind:
              type: string
            metadata:
              type: object
            spec:
              type: object
              required: [podTemplate]
              properties:
${mode}
                podTemplate:
                  type: object
                  required: [spec]
                  properties:
                    metadata:
                      type: object
                      properties:
                        labels:
                          type: object
                          additionalProperties:
                            type: string
                        annotations:
                          type: object
                          additionalProperties:
                            type: string
                    spec:
                      type: object
                      x-kubernetes-preserve-unknown-fields: true
                      properties:
${FIELDS.map((name) => field(name, " ".repeat(24))).join("\n")}
                volumeClaimTemplates:
                  type: array
                  items:
                    type: object
                    required: [spec]
                    properties:
                      metadata:
                        type: object
                        properties:
                          name:
                            type: string
                      spec:
                        type: object
                        x-kubernetes-preserve-unknown-fields: true
            status:
              type: object
              properties:
                conditions:
                  type: array
                  items:
                    type: object
                    required: [type, status]
                    properties:
                      type:
                        type: string
                      status:
                        type: string
                        enum: ["True", "False", Unknown]
                      reason:
                        type: string
                      message:
                        type: string
                      lastTransitionTime:
                        type: string
                        format: date-time
`;
}

const ALPHA_MODE = `
                replicas:
                  type: integer
                  minimum: 0
                  maximum: 1`;
const BETA_MODE = `
                operatingMode:
                  type: string
                  enum: [Running, Suspended]`;

/** The manifest's text. */
export const agentSandboxManifest = `# Stands for agent-sandbox's release manifest in tests.
---
apiVersion: v1
kind: Namespace
metadata:
  name: agent-sandbox-system
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: agent-sandbox-controller
  namespace: agent-sandbox-system
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: sandboxes.agents.x-k8s.io
  annotations:
    controller-gen.kubebuilder.io/version: v0.19.0
spec:
  group: agents.x-k8s.io
  scope: Namespaced
  names:
    kind: Sandbox
    listKind: SandboxList
    plural: sandboxes
    shortNames: [sandbox]
    singular: sandbox
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig:
        # The controller adds who signed its certificate.
        service:
          namespace: agent-sandbox-system
          name: agent-sandbox-webhook-service
          path: /convert
          port: 443
  versions:${version("v1alpha1", false, ALPHA_MODE)}${version("v1beta1", true, BETA_MODE)}
---
# As in the release, without events.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: agent-sandbox-controller
rules:
  - apiGroups: [agents.x-k8s.io]
    resources: [sandboxes, sandboxes/status, sandboxes/finalizers]
    verbs: [create, delete, get, list, patch, update, watch]
  - apiGroups: [""]
    resources: [pods, services, persistentvolumeclaims]
    verbs: [create, delete, get, list, patch, update, watch]
  - apiGroups: [apiextensions.k8s.io]
    resources: [customresourcedefinitions]
    verbs: [get, list, patch, update, watch]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [create, get, list, patch, update, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: agent-sandbox-controller
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: agent-sandbox-controller
subjects:
  - kind: ServiceAccount
    name: agent-sandbox-controller
    namespace: agent-sandbox-system
---
apiVersion: v1
kind: Service
metadata:
  name: agent-sandbox-webhook-service
  namespace: agent-sandbox-system
spec:
  selector:
    app: agent-sandbox-controller
  ports:
    - port: 443
      targetPort: 9443
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: agent-sandbox-controller
  namespace: agent-sandbox-system
  labels:
    app: agent-sandbox-controller
spec:
  replicas: 1
  selector:
    matchLabels:
      app: agent-sandbox-controller
  template:
    metadata:
      labels:
        app: agent-sandbox-controller
    spec:
      serviceAccountName: agent-sandbox-controller
      terminationGracePeriodSeconds: 5
      containers:
        - name: agent-sandbox-controller
          image: ${CONTROLLER_IMAGE}
          args:
            - --leader-elect=true
          ports:
            - name: webhook
              containerPort: 9443
            - name: probes
              containerPort: 8081
          readinessProbe:
            httpGet:
              path: /readyz
              port: probes
            periodSeconds: 5
`;
