/**
 * What OpenShell's client reads of an instance: `$XDG_CONFIG_HOME/openshell/gateways/NAME` with metadata,
 * client certificates and the login's token, and the name of the active gateway. NAME is `gateway` for the instance `default`,
 * else `gateway-NAME`, as in the kubeconfig. A marker file says which entries are ours; entries that are
 * not are never changed. It must not read a certificate's content nor know the cluster.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { asDiskFull, GatewayError } from "../../vm/base/error.ts";
import { exists, xdgConfigHome } from "../../vm/base/layout.ts";
import { type LoginToken, parseToken, renderMetadata, renderToken } from "./client_metadata.ts";
import { readTextIfThere, recoverDirectory, removeIfThere, replaceDirectory } from "./files.ts";
import { isSameOwner, type Owner, ownerName, publicName } from "./owner.ts";

/** Our own file in an entry's folder; OpenShell's client does not read it. */
const MARKER_FILE = ".gateway-instance.json";

const MarkerSchema = v.object({
  instance: v.string(),
  instanceDir: v.string(),
  previousActive: v.nullable(v.string()),
  /** The user made it the active one by name, which lasts over `down` and `up`. */
  chosen: v.optional(v.boolean(), false),
});

interface Marker extends Owner {
  /** Who was active before we were; null for nobody. */
  readonly previousActive: string | null;
  readonly chosen: boolean;
}

/**
 * When an entry becomes the active gateway: "never"; "free": nobody else's is, or the one that is, is gone or its instance
 * does not run; "first": also in place of one that is not ours.
 */
export type Activation = "never" | "free" | "first";

/** One entry to write. */
export interface WriteClientFilesOptions {
  /** The instance it belongs to. */
  readonly owner: Owner;
  /** Address the client calls; 127.0.0.1 by default. */
  readonly host?: string;
  /** Port on the host. */
  readonly port: number;
  /** Who signs the server. */
  readonly caPem: string;
  /** The client's certificate and its secret key. */
  readonly client: { readonly certPem: string; readonly keyPem: string };
  /** The user's token where the service knows its users by one; else by their certificate. */
  readonly login?: LoginToken;
  /** Whether it may become the active gateway by itself; "never" by default. */
  readonly activate?: Activation;
  /** Whether an instance of ours runs; none does by default. */
  readonly isRunning?: (owner: Owner) => Promise<boolean>;
  /** The client's folder; {@linkcode openshellConfigDir} by default. */
  readonly configDir?: string;
}

/** An entry that was written. */
export interface WrittenClientFiles {
  /** The gateway's name in OpenShell's client. */
  readonly name: string;
  /** Its folder. */
  readonly dir: string;
  /** Whether it is the active gateway now. */
  readonly active: boolean;
}

/** Where OpenShell's client keeps its files: `$XDG_CONFIG_HOME/openshell`. */
export function openshellConfigDir(): string {
  return join(xdgConfigHome(), "openshell");
}

/** The folder of an instance's entry, whether it is there or not. */
export function clientFilesPath(instance: string): string {
  return entryDir(openshellConfigDir(), publicName(instance));
}

/**
 * Writes the instance's entry, and makes it the active gateway where that is allowed, remembering which one was. An entry
 * that the user chose with {@linkcode useClientFiles} becomes active again. Certificates are swapped as a folder (0700, files 0600), everything else by rename. The caller holds the instance lock.
 *
 * @throws GatewayError `file-foreign` when an entry of that name is not this instance's, `disk-full`.
 */
export async function writeClientFiles(
  options: WriteClientFilesOptions,
): Promise<WrittenClientFiles> {
  const { owner, login } = options;
  const configDir = options.configDir ?? openshellConfigDir();
  const name = ownerName(owner);
  const dir = entryDir(configDir, name);
  const known = await readMarker(dir);
  if ((known && !isSameOwner(known, owner)) || (!known && await isOccupied(dir))) {
    throw foreignEntry(name, dir, known);
  }
  try {
    await Deno.mkdir(dir, { recursive: true, mode: 0o700 });
    const active = await readActive(configDir);
    // Its end gave the place back; whoever was chosen since then keeps it.
    const again = known?.chosen === true && active === known.previousActive;
    const activate = again || active === name ||
      await mayActivate(options, configDir, active);
    const previousActive = active === name ? known?.previousActive ?? null : active;
    const { instance, instanceDir } = owner;
    const chosen = known?.chosen ?? false;
    await writeMarker(dir, { instance, instanceDir, previousActive, chosen });
    await replaceDirectory(join(dir, "mtls"), {
      "ca.crt": { data: options.caPem },
      "tls.crt": { data: options.client.certPem },
      "tls.key": { data: options.client.keyPem },
    });
    if (login) await writeFileAtomic(tokenPath(dir), renderToken(login), 0o600);
    else await removeIfThere(tokenPath(dir));
    await writeFileAtomic(
      join(dir, "metadata.json"),
      renderMetadata(name, options.host ?? "127.0.0.1", options.port, login),
      0o600,
    );
    if (activate && active !== name) await writeFileAtomic(activePath(configDir), name, 0o600);
    return { name, dir, active: activate };
  } catch (error) {
    throw asDiskFull(error, dir);
  }
}

/** Whether an entry may take the place of the active one, if there is one. */
async function mayActivate(
  { activate = "never", isRunning }: WriteClientFilesOptions,
  configDir: string,
  active: string | null,
): Promise<boolean> {
  if (activate === "never") return false;
  if (active === null || !await exists(entryDir(configDir, active))) return true;
  const other = await readMarker(entryDir(configDir, active));
  if (!other) return activate === "first";
  return !await isRunning?.(other);
}

/**
 * Makes an instance's entry the client's active gateway, now and at each of its later starts.
 *
 * @throws GatewayError `instance-stopped` when it has no client files, since it never was READY.
 */
export async function useClientFiles(
  owner: Owner,
  configDir: string = openshellConfigDir(),
): Promise<{ readonly name: string; readonly previous: string | null }> {
  const name = ownerName(owner);
  const dir = entryDir(configDir, name);
  const marker = await readMarker(dir);
  if (!marker || !isSameOwner(marker, owner)) {
    throw new GatewayError({
      code: "instance-stopped",
      what: `Cannot make "${owner.instance}" the client's active gateway`,
      why: "it has no client files; a service with TLS writes them when it is READY",
      fix: `run \`gateway up --name ${owner.instance}\` first`,
    });
  }
  const active = await readActive(configDir);
  const previousActive = active === name ? marker.previousActive : active;
  for (const other of await ownEntries(configDir)) {
    if (other.name !== name && other.marker.chosen) {
      await writeMarker(other.dir, { ...other.marker, chosen: false });
    }
  }
  await writeMarker(dir, { ...marker, previousActive, chosen: true });
  if (active !== name) await writeFileAtomic(activePath(configDir), name, 0o600);
  return { name, previous: active === name ? null : active };
}

/** Whether OpenShell's client uses an instance's entry when it is told no other. */
export async function isActiveClient(
  owner: Owner,
  configDir: string = openshellConfigDir(),
): Promise<boolean> {
  const name = ownerName(owner);
  if (await readActive(configDir) !== name) return false;
  const marker = await readMarker(entryDir(configDir, name));
  return marker !== undefined && isSameOwner(marker, owner);
}

/** Replaces the token of an instance's entry; nothing where the entry is not this instance's or has no login. */
export async function writeLoginToken(
  owner: Owner,
  token: LoginToken,
  configDir: string = openshellConfigDir(),
): Promise<void> {
  const dir = entryDir(configDir, ownerName(owner));
  const marker = await readMarker(dir);
  if (!marker || !isSameOwner(marker, owner)) return;
  await writeFileAtomic(tokenPath(dir), renderToken(token), 0o600);
}

/** The token of an instance's entry; undefined where there is none. Secret. */
export async function readLoginToken(
  owner: Owner,
  configDir: string = openshellConfigDir(),
): Promise<LoginToken | undefined> {
  const dir = entryDir(configDir, ownerName(owner));
  const marker = await readMarker(dir);
  if (!marker || !isSameOwner(marker, owner)) return undefined;
  const text = await readTextIfThere(tokenPath(dir));
  return text === undefined ? undefined : parseToken(text);
}

/**
 * Takes the login's token away, and gives the active gateway back to whoever had it before us, when it is still ours; for
 * `down`. True when the active gateway was changed.
 */
export async function deactivateClientFiles(
  owner: Owner,
  configDir: string = openshellConfigDir(),
): Promise<boolean> {
  const name = ownerName(owner);
  const marker = await readMarker(entryDir(configDir, name));
  if (!marker || !isSameOwner(marker, owner)) return false;
  await removeIfThere(tokenPath(entryDir(configDir, name)));
  if (await readActive(configDir) !== name) return false;
  const previous = marker.previousActive;
  if (previous !== null && await exists(entryDir(configDir, previous))) {
    await writeFileAtomic(activePath(configDir), previous, 0o600);
  } else {
    await removeIfThere(activePath(configDir));
  }
  return true;
}

/**
 * Takes the instance's entry away and gives the active gateway back; for `rm`. An entry that is not this
 * instance's stays. True when something was removed.
 */
export async function removeClientFiles(
  owner: Owner,
  configDir: string = openshellConfigDir(),
): Promise<boolean> {
  const name = ownerName(owner);
  const dir = entryDir(configDir, name);
  const marker = await readMarker(dir);
  if (!marker || !isSameOwner(marker, owner)) return false;
  await deactivateClientFiles(owner, configDir);
  await inherit(configDir, name, marker.previousActive);
  await recoverDirectory(join(dir, "mtls"));
  return await removeIfThere(dir);
}

/** Entries of ours that remember the removed one as their predecessor get its predecessor instead. */
async function inherit(configDir: string, name: string, previous: string | null): Promise<void> {
  for (const { name: other, dir, marker } of await ownEntries(configDir)) {
    if (other === name || marker.previousActive !== name) continue;
    await writeMarker(dir, { ...marker, previousActive: previous === other ? null : previous });
  }
}

async function ownEntries(
  configDir: string,
): Promise<{ readonly name: string; readonly dir: string; readonly marker: Marker }[]> {
  const found = [];
  for await (const entry of Deno.readDir(join(configDir, "gateways"))) {
    if (!entry.isDirectory) continue;
    const dir = entryDir(configDir, entry.name);
    const marker = await readMarker(dir);
    if (marker) found.push({ name: entry.name, dir, marker });
  }
  return found;
}

/** True when the folder holds something that is not the start of an entry of ours cut by a crash. */
async function isOccupied(dir: string): Promise<boolean> {
  if (!(await exists(dir))) return false;
  for await (const entry of Deno.readDir(dir)) {
    if (!entry.name.startsWith(`${MARKER_FILE}.`)) return true;
  }
  return false;
}

function entryDir(configDir: string, name: string): string {
  return join(configDir, "gateways", name);
}

function tokenPath(dir: string): string {
  return join(dir, "oidc_token.json");
}

function activePath(configDir: string): string {
  return join(configDir, "active_gateway");
}

/** The active gateway's name; null when there is none or its name could lead out of the folder. */
async function readActive(configDir: string): Promise<string | null> {
  const name = (await readTextIfThere(activePath(configDir)))?.trim();
  return name && !name.includes("/") && name !== "." && name !== ".." ? name : null;
}

async function readMarker(dir: string): Promise<Marker | undefined> {
  const text = await readTextIfThere(join(dir, MARKER_FILE));
  if (text === undefined) return undefined;
  try {
    return v.parse(MarkerSchema, JSON.parse(text));
  } catch {
    return undefined;
  }
}

async function writeMarker(dir: string, marker: Marker): Promise<void> {
  await writeFileAtomic(join(dir, MARKER_FILE), JSON.stringify(marker) + "\n", 0o600);
}

function foreignEntry(name: string, dir: string, known: Marker | undefined): GatewayError {
  return new GatewayError({
    code: "file-foreign",
    what: `Cannot write the client files of the gateway "${name}"`,
    why: known
      ? `"${dir}" belongs to the instance in "${known.instanceDir}"`
      : `"${dir}" is there and gateway did not write it`,
    fix: known
      ? "start this instance with another --name, or remove the other one with `gateway rm NAME`"
      : `move "${dir}" away, or start the instance with another --name`,
  });
}
