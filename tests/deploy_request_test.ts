/**
 * How a deployment's requests reach a cluster, against an HTTPS server that wants certificates.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join, relative } from "@std/path";
import https from "node:https";
import type { TLSSocket } from "node:tls";
import { ensurePki } from "../bootstrap/credentials/pki.ts";
import { openTarget } from "../bootstrap/deploy/target.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { Sandbox } from "./sandbox.ts";

const signal = new AbortController().signal;

interface Seen {
  readonly line: string;
  readonly authorized: boolean;
  readonly authorization: string | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

/** An HTTPS server that answers with what it was sent, and a writer of kubeconfigs for it. */
async function withServer(
  fn: (server: {
    readonly seen: Seen[];
    readonly top: string;
    connections(): number;
    config(user: (pki: Awaited<ReturnType<typeof ensurePki>>) => object): Promise<string>;
    stop(): Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  await using sandbox = await Sandbox.make();
  const pki = await ensurePki(join(sandbox.top, "pki"), { span: silentSpan(), signal });
  const seen: Seen[] = [];
  let connections = 0;
  const { certPem: cert, keyPem: key } = pki.server;
  const tls = { cert, key, ca: pki.caPem, requestCert: true, rejectUnauthorized: false };
  const server = https.createServer(tls, async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { authorization, "content-type": type } = request.headers;
    const { authorized } = request.socket as TLSSocket;
    seen.push({ line: `${request.method} ${request.url}`, authorized, authorization, type, body });
    response.end(body || "{}");
  });
  server.on("secureConnection", () => connections++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const stop = () =>
    new Promise<void>((resolve) => {
      server.closeAllConnections();
      server.close(() => resolve());
    });
  try {
    await fn({
      ...{ seen, top: sandbox.top, stop, connections: () => connections },
      config: async (user) => {
        const path = join(sandbox.top, "kubeconfig.json");
        const cluster = {
          server: `https://127.0.0.1:${port}/at/cluster`,
          // Relative to the file, as kubectl has it.
          "certificate-authority": relative(sandbox.top, pki.caPath),
        };
        await Deno.writeTextFile(
          path,
          JSON.stringify({
            ...{ apiVersion: "v1", kind: "Config", "current-context": "c" },
            clusters: [{ name: "c", cluster }],
            users: [{ name: "c", user: user(pki) }],
            contexts: [{ name: "c", context: { cluster: "c", user: "c" } }],
          }),
        );
        return path;
      },
    });
  } finally {
    await stop();
  }
}

Deno.test("deploy's requests keep fields that no model knows, over kept connections with the client's certificate", () =>
  withServer(async ({ seen, config, connections }) => {
    const kubeconfig = await config(({ client }) => ({
      "client-certificate": client.certPath,
      "client-key": client.keyPath,
    }));
    using api = await openTarget({ context: "c", kubeconfig });
    const body = {
      ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "app" } },
      spec: { replicas: 1, ofAVersionToCome: { deep: [1, null] } },
    };
    const path = "/apis/apps/v1/namespaces/n/deployments/app";
    const answer = await api.call({
      ...{ method: "PATCH", path, body, signal, type: "application/apply-patch+yaml" },
      query: { fieldManager: "gateway", force: "false" },
    });
    for (let at = 0; at < 5; at++) await api.call({ method: "GET", path: "/version", signal });
    assertEquals(answer as unknown, body);
    assertEquals(seen.map(({ line }) => line), [
      `PATCH /at/cluster${path}?fieldManager=gateway&force=false`,
      ...Array(5).fill("GET /at/cluster/version"),
    ]);
    assertEquals(JSON.parse(seen[0]!.body), body);
    assertEquals(seen[0]?.type, "application/apply-patch+yaml");
    assert(seen.every(({ authorized }) => authorized));
    assert(connections() <= 2, `${connections()} connections for six requests`);
  }));

Deno.test("deploy's requests bring the token that the user's own program prints", () =>
  withServer(async ({ seen, config, top }) => {
    const program = join(top, "login.sh");
    const credential = JSON.stringify({
      apiVersion: "client.authentication.k8s.io/v1",
      kind: "ExecCredential",
      status: { token: "of-the-plugin" },
    });
    await Deno.writeTextFile(program, `#!/bin/sh\necho '${credential}'\n`, { mode: 0o700 });
    const kubeconfig = await config(() => ({
      exec: { apiVersion: "client.authentication.k8s.io/v1", command: program, args: [] },
    }));
    using api = await openTarget({ context: "c", kubeconfig });
    await api.call({ method: "GET", path: "/version", signal });
    assertEquals(seen[0]?.authorization, "Bearer of-the-plugin");
    assertEquals(seen[0]?.authorized, false);
  }));

Deno.test("deploy's requests tell what broke them: no server, a certificate of another authority, the end", () =>
  withServer(async ({ config, stop, top }) => {
    const kubeconfig = await config(() => ({ token: "t" }));
    const failure = async (one: AbortSignal = signal) => {
      using api = await openTarget({ context: "c", kubeconfig });
      return await assertRejects(() => api.call({ method: "GET", path: "/version", signal: one }));
    };
    const over = new AbortController();
    over.abort(new Error("over"));
    assertEquals((await failure(over.signal) as Error).message, "over");
    const other = await ensurePki(join(top, "other"), { span: silentSpan(), signal });
    const text = await Deno.readTextFile(kubeconfig);
    await Deno.writeTextFile(kubeconfig, text.replace("pki/ca.", "other/ca."));
    assert(await Deno.stat(other.caPath));
    const foreign = await failure();
    assert(foreign instanceof GatewayError && foreign.code === "network-failed");
    assertStringIncludes(foreign.why.toLowerCase(), "certificate");
    await stop();
    const gone = await failure();
    assert(gone instanceof GatewayError && gone.code === "network-failed");
    assertStringIncludes(gone.why.toLowerCase(), "refused");
  }));
