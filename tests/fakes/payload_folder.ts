/**
 * A payload's folder with one of everything, for tests that spoil it in one place.
 * It must not hold a test.
 *
 * @module
 */
import { join } from "@std/path";
import { gzipSync } from "node:zlib";
import { packTar } from "../../bootstrap/payload/tar.ts";
import { tempDir } from "./temp_dir.ts";

/** Its payload.yaml. */
export const GOOD = `\
name: hello
namespace: web
charts:
  - name: chart
    folder: charts/one
    version: "1.2.3"
    values:
      replicas: 1
  - name: packed
    archive: two.tgz
manifests:
  - web.yaml
images:
  - ref: registry.example/team/hello:1.2
    digest: sha256:${"a".repeat(64)}
secrets:
  - name: hello-tls
    type: kubernetes.io/tls
    data:
      tls.crt: server.crt
      tls.key: server.key
service:
  nodePort: 30080
  protocol: https
  health:
    path: /healthz
    timeoutSeconds: 60
notes: Open {endpoint}.
`;

/** Its manifest. */
export const WEB = `\
# a comment first
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: web
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: web}
`;

const CHART = "apiVersion: v2\nname: one\nversion: 1.2.3\n";

/** A payload's folder; `files` replaces or adds some. Undefined: leave it out. */
export async function payloadFolder(
  files: Readonly<Record<string, string | Uint8Array | undefined>> = {},
): Promise<string> {
  const dir = await tempDir();
  const archive = gzipSync(
    await packTar([{ name: "two/Chart.yaml", data: new TextEncoder().encode(CHART), mode: 0o644 }]),
  );
  const all = {
    "payload.yaml": GOOD,
    "web.yaml": WEB,
    "charts/one/Chart.yaml": CHART,
    "charts/one/templates/web.yaml": "a: {{ .Values.replicas }}\n",
    "two.tgz": archive as Uint8Array,
    ...files,
  };
  for (const [name, data] of Object.entries(all)) {
    if (data === undefined) continue;
    const path = join(dir, name);
    await Deno.mkdir(join(path, ".."), { recursive: true });
    await Deno.writeFile(path, typeof data === "string" ? new TextEncoder().encode(data) : data);
  }
  return dir;
}
