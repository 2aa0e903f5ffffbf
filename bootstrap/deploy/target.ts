/**
 * Finds the cluster that a context of the user's kubeconfig means.
 * It must not write a kubeconfig, and must not quote one: it holds keys and tokens.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import type { KubeConfig } from "@kubernetes/client-node";
import { describeError, type GatewayError, usageError } from "../../vm/base/error.ts";
import { homeDir } from "../../vm/base/layout.ts";
import { ClusterApi } from "../cluster/api.ts";
import { ContextTransport } from "./context_transport.ts";

/** Which cluster, as the user said it. */
export interface TargetRequest {
  readonly context: string;
  /** One file; else those that KUBECONFIG lists, else `~/.kube/config`. */
  readonly kubeconfig?: string;
}

/**
 * Opens the API of a context. Nothing is asked of it yet.
 *
 * @throws GatewayError `usage` for a file that cannot be read or a context that is not in it.
 */
export async function openTarget(request: TargetRequest): Promise<ClusterApi> {
  // Slow to load, so only here.
  const { KubeConfig } = await import("@kubernetes/client-node");
  const listed = request.kubeconfig === undefined ? Deno.env.get("KUBECONFIG") : undefined;
  const files = listed
    ? listed.split(":").filter((file) => file !== "")
    : [request.kubeconfig ?? join(homeDir(), ".kube", "config")];
  const config = new KubeConfig();
  const read: string[] = [];
  for (const file of files) {
    // As kubectl has it: one of several files may be missing.
    const one = await readConfig(new KubeConfig(), file, files.length > 1);
    if (one === undefined) continue;
    read.push(file);
    merge(config, one);
  }
  const where = read.length === 0 ? files.join(", ") : read.join(", ");
  const context = config.getContextObject(request.context);
  const names = config.getContexts().map(({ name }) => name);
  if (!context) throw unknownContext(request.context, where, names);
  config.setCurrentContext(request.context);
  if (!config.getCurrentCluster()) {
    throw usageError(
      `Cannot use the context "${request.context}" of "${where}"`,
      `its cluster "${context.cluster}" is not in the file`,
      "correct the kubeconfig, or name another --context",
    );
  }
  try {
    return new ClusterApi(new ContextTransport(config));
  } catch {
    throw usageError(
      `Cannot use the context "${request.context}" of "${where}"`,
      `the server of its cluster "${context.cluster}" is no URL`,
      "correct the kubeconfig; a server reads like https://127.0.0.1:6443",
    );
  }
}

async function readConfig(
  config: KubeConfig,
  file: string,
  mayBeMissing: boolean,
): Promise<KubeConfig | undefined> {
  const what = `Cannot read the kubeconfig "${file}"`;
  const fix = "pass --kubeconfig FILE; that of an instance is in `gateway status`";
  let text: string;
  try {
    text = await Deno.readTextFile(file);
  } catch (error) {
    const missing = error instanceof Deno.errors.NotFound;
    if (missing && mayBeMissing) return undefined;
    const why = missing
      ? "there is no such file"
      : error instanceof Deno.errors.IsADirectory
      ? "it is a folder"
      : error instanceof Deno.errors.PermissionDenied
      ? "this user may not read it"
      : describeError(error);
    throw usageError(what, why, fix);
  }
  try {
    config.loadFromString(text);
    // What it names beside itself is relative to its folder.
    config.makePathsAbsolute(dirname(file));
  } catch (error) {
    // What a YAML parser says quotes lines, and those may hold a key.
    const plain = /^(clusters|users|contexts)\[\d+\][\w.-]* is missing$/.exec(describeError(error));
    throw usageError(what, plain ? plain[0] : "it is not the YAML of a kubeconfig", fix);
  }
  return config;
}

/** Of what several files name, the first one counts. */
function merge(into: KubeConfig, from: KubeConfig): void {
  for (const cluster of from.clusters) {
    if (!into.clusters.some(({ name }) => name === cluster.name)) into.addCluster(cluster);
  }
  for (const user of from.users) {
    if (!into.users.some(({ name }) => name === user.name)) into.addUser(user);
  }
  for (const context of from.contexts) {
    if (!into.contexts.some(({ name }) => name === context.name)) into.addContext(context);
  }
}

function unknownContext(context: string, where: string, names: readonly string[]): GatewayError {
  const listed = names.map((name) => `"${name}"`).join(", ");
  return usageError(
    `Cannot find the context "${context}" in "${where}"`,
    names.length === 0 ? "it holds no context" : `the contexts there are ${listed}`,
    names.length === 0
      ? "pass --kubeconfig FILE; that of an instance is in `gateway status`"
      : `pass --context ${names[0]}, or another file with --kubeconfig`,
  );
}
