/**
 * Which certificates a saved guest knows: the instance's own, which the host renews, and the cluster's, which end a year
 * after the cluster made them, whatever is saved when.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { join } from "@std/path";
import { digestBytes } from "../../vm/base/digest.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import { readCredentials } from "./kubeconfig.ts";

const DAY_MS = 24 * 60 * 60_000;
/** A cluster's start makes those anew that end within three months; starting it earlier would change nothing. */
const RENEW_MS = 89 * DAY_MS;
/** For a state that does not name the end: the certificates are taken for new when it was saved. */
const UNKNOWN_MS = 200 * DAY_MS;

/** Whether the cluster in a saved state has to start again before its own certificates end. */
export function isOld(slot: SavedState, nowMs = Date.now()): boolean {
  return slot.clusterEnds === null
    ? nowMs - Date.parse(slot.savedAt) > UNKNOWN_MS
    : endsSoon(slot.clusterEnds, nowMs);
}

/** Whether a start would make a cluster's certificates anew that end then. */
export function endsSoon(clusterEnds: string, nowMs: number): boolean {
  return Date.parse(clusterEnds) - nowMs < RENEW_MS;
}

/** When the certificates of a cluster end, by its kubeconfig's, which are made with the others; null when it has none. */
export function clusterEnds(k3sYaml: string): string | null {
  try {
    return new X509Certificate(readCredentials(k3sYaml).certPem).validToDate.toISOString();
  } catch {
    return null;
  }
}

/** What a state that is saved now says of its certificates. */
export async function certificatesNow(
  paths: Pick<InstancePaths, "dir" | "pkiDir">,
): Promise<Pick<SavedState, "certificates" | "clusterEnds">> {
  const k3sYaml = await Deno.readTextFile(join(paths.dir, "k3s.yaml")).catch(() => undefined);
  return {
    certificates: await certificatesDigest(paths.pkiDir),
    clusterEnds: k3sYaml === undefined ? null : clusterEnds(k3sYaml),
  };
}

/**
 * The slot of an instance whose certificates were renewed or made anew since: its guest has to adopt them as it would
 * another instance's. Any other slot as it is.
 */
export async function adoptRenewed(
  paths: Pick<InstancePaths, "dir" | "name" | "pkiDir">,
  slot: SavedState,
): Promise<SavedState> {
  if (slot.from !== null || slot.certificates === null) return slot;
  if (slot.certificates === await certificatesDigest(paths.pkiDir)) return slot;
  // The old ones are gone, and may be good still: their refusal is not to be tried.
  const pkiDir = join(paths.dir, "former", "pki");
  return { ...slot, from: { name: paths.name, pkiDir, k3sYaml: null, self: true } };
}

/** Null where the instance has none. */
async function certificatesDigest(pkiDir: string): Promise<string | null> {
  try {
    const names = ["ca.crt", "server.crt", "client.crt"];
    const texts = await Promise.all(names.map((name) => Deno.readTextFile(join(pkiDir, name))));
    return digestBytes(texts.join("\n"));
  } catch {
    return null;
  }
}
