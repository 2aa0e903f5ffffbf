/**
 * A service for the walk through snapshots. It must not know how the test uses it.
 *
 * @module
 */

/** A service that mounts the certificates and says nothing about reloading them. */
export const PLAIN = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: plain, namespace: openshell}
spec:
  selector: {matchLabels: {app: plain}}
  template:
    metadata: {labels: {app: plain}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: sleep
        image: gateway.local/busybox:1.37
        imagePullPolicy: Never
        command: [sleep, "100000"]
        volumeMounts: [{name: tls, mountPath: /tls}]
      volumes: [{name: tls, secret: {secretName: openshell-server-tls}}]
`;
