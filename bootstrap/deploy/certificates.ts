/**
 * The certificates of a deployment and what is remembered of it, in a folder of its own for each context:
 * `$XDG_DATA_HOME/gateway/deployments/NAME`. With an instance's certificates the authority is the instance's, and its
 * client certificate works for both; the server's certificate is the deployment's own, since it holds another address.
 * It must not change the instance's folder, and must not talk to a cluster.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { digestBytes } from "../../vm/base/digest.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import {
  dataDir,
  ensurePrivateDir,
  ensureRuntimeDir,
  exists,
  isPrivateDir,
  runtimeDir,
} from "../../vm/base/layout.ts";
import { orphanId, ownedName } from "../../vm/base/process_table.ts";
import { removeEmptyDir } from "../../vm/instance/folder.ts";
import { requireInstance } from "../../vm/instance/instance.ts";
import { releaseLock } from "../../vm/base/file_lock.ts";
import { isInPlace } from "../../vm/instance/lock.ts";
import { readTextIfThere, replaceDirectory } from "../credentials/files.ts";
import { ensureJwt } from "../credentials/jwt.ts";
import { ensurePki, type Pki, PKI_FILES } from "../credentials/pki.ts";
import type { SecretMaterial } from "../payload/secrets.ts";

/** What is kept of a deployment besides its certificates. */
export interface DeploymentRecord {
  readonly context: string;
  /** The host that its clients call; absent while none is known. */
  readonly host?: string;
  /** Every name the server's certificate was made for, apart from those it always has. */
  readonly names: readonly string[];
  /** What is deployed with these certificates, as `namespace/payload`. */
  readonly payloads: readonly string[];
}

const RecordSchema = v.object({
  context: v.string(),
  host: v.optional(v.string()),
  names: v.array(v.string()),
  payloads: v.array(v.string()),
});

const MAX_NAMES = 20;
const TEMPORARY_PREFIX = "deploy-";

/** Removes the folders of dry runs that were killed. */
async function sweepTemporary(): Promise<void> {
  if (!await isPrivateDir(runtimeDir())) return;
  for await (const { name } of Deno.readDir(runtimeDir())) {
    if (orphanId(TEMPORARY_PREFIX, name) === undefined) continue;
    await Deno.remove(join(runtimeDir(), name), { recursive: true });
  }
}

/** A deployment's folder with its lock held; disposing releases it. */
export class DeploymentFolder implements Disposable {
  private constructor(
    /** 0700. */
    readonly dir: string,
    /** The last part of {@linkcode dir}: the deployment's name. */
    readonly name: string,
    private readonly context: string,
    private readonly lock: Deno.FsFile | undefined,
  ) {}

  /**
   * Opens the folder of a context and takes its lock.
   *
   * @throws GatewayError `instance-locked` when another `gateway deploy` works on it.
   */
  static async open(context: string): Promise<DeploymentFolder> {
    const { dir, name } = deploymentPlace(context);
    await sweepTemporary();
    await ensurePrivateDir(join(dir, ".."));
    await ensurePrivateDir(dir);
    const path = join(dir, "lock");
    const lock = await Deno.open(path, { create: true, write: true, mode: 0o600 });
    // Whoever removed the folder meanwhile took the lock's file along.
    if (await lock.tryLock(true) && await isInPlace(lock, path)) {
      return new DeploymentFolder(dir, name, context, lock);
    }
    releaseLock(lock);
    throw new GatewayError({
      code: "instance-locked",
      what: `Cannot deploy with the context "${context}"`,
      why: "another `gateway deploy` works on it",
      fix: "wait until it has ended, and run this again",
    });
  }

  /** A folder that is removed afterwards, for what changes nothing; what is known is read from the real one. */
  static async temporary(context: string): Promise<DeploymentFolder & AsyncDisposable> {
    const { dir: real, name } = deploymentPlace(context);
    await ensureRuntimeDir();
    await sweepTemporary();
    // It holds the authority's key, so the next command removes it when this one is killed.
    const id = crypto.randomUUID().slice(0, 8);
    const dir = join(runtimeDir(), ownedName(TEMPORARY_PREFIX, id));
    await ensurePrivateDir(dir);
    for (const file of ["deployment.json", ...PKI_FILES.map((file) => `pki/${file}`)]) {
      const text = await readTextIfThere(join(real, file));
      if (text === undefined) continue;
      await Deno.mkdir(join(dir, "pki"), { recursive: true, mode: 0o700 });
      await writeFileAtomic(join(dir, file), text, 0o600);
    }
    const folder = new DeploymentFolder(dir, name, context, undefined);
    return Object.assign(folder, {
      [Symbol.asyncDispose]: async () => {
        await Deno.remove(dir, { recursive: true }).catch(() => {});
        await removeEmptyDir(runtimeDir());
      },
    });
  }

  /** What is remembered; undefined for a first time. @throws GatewayError `instance-schema` when it cannot be read. */
  async record(): Promise<DeploymentRecord | undefined> {
    const path = join(this.dir, "deployment.json");
    const text = await readTextIfThere(path);
    try {
      return text === undefined ? undefined : v.parse(RecordSchema, JSON.parse(text));
    } catch (error) {
      throw new GatewayError({
        code: "instance-schema",
        what: `Cannot read "${path}"`,
        why: error instanceof v.ValiError ? describeError(error) : "it is not JSON",
        fix: `restore it, or remove the folder: its certificates are made anew then`,
      });
    }
  }

  /**
   * The certificates, the server's with the name of `host` beside those it had before.
   *
   * @throws GatewayError `instance-unknown`, `pki-invalid`, `disk-full`.
   */
  async certificates(
    options: {
      readonly instance: string | undefined;
      readonly host: string | undefined;
      readonly span: Span;
      readonly signal: AbortSignal;
    },
  ): Promise<Pki> {
    const { instance, host, span, signal } = options;
    const dir = join(this.dir, "pki");
    if (instance !== undefined) await adoptAuthority(instance, dir);
    const known = await this.record();
    const names = [...new Set([...host === undefined ? [] : [host], ...known?.names ?? []])]
      .slice(0, MAX_NAMES);
    const pki = await ensurePki(dir, { span, signal, extraNames: names });
    await this.#save({ host: host ?? known?.host, names, payloads: known?.payloads ?? [] });
    return pki;
  }

  /**
   * What the payload's Secrets are filled with. Keys that sign tokens are the instance's where it has some.
   *
   * @throws GatewayError `instance-unknown`, `disk-full`.
   */
  async material(
    pki: Pki,
    options: { readonly instance: string | undefined; readonly wantsJwt: boolean },
  ): Promise<SecretMaterial> {
    if (!options.wantsJwt) return { certificates: pki };
    const dir = join(this.dir, "jwt");
    if (options.instance !== undefined) {
      const { paths } = await requireInstance(options.instance);
      if (await exists(paths.jwtDir)) await copyFolder(paths.jwtDir, dir);
    }
    return { certificates: pki, jwt: await ensureJwt(dir) };
  }

  /** Remembers that something is deployed with these certificates. */
  async add(payload: string): Promise<void> {
    const { names = [], host, payloads = [] } = await this.record() ?? {};
    if (payloads.includes(payload)) return;
    await this.#save({ host, names, payloads: [...payloads, payload] });
  }

  /** Forgets it; with the last one the folder and its certificates go. */
  async drop(payload: string): Promise<void> {
    const { names = [], host, payloads = [] } = await this.record() ?? {};
    const left = payloads.filter((one) => one !== payload);
    if (left.length > 0) await this.#save({ host, names, payloads: left });
    else await Deno.remove(this.dir, { recursive: true });
  }

  async #save(record: Omit<DeploymentRecord, "context">): Promise<void> {
    const text = JSON.stringify({ context: this.context, ...record }, null, 2) + "\n";
    await writeFileAtomic(join(this.dir, "deployment.json"), text, 0o600);
  }

  /** Releases the lock. */
  [Symbol.dispose](): void {
    if (this.lock) releaseLock(this.lock);
  }
}

/** The name and folder of a context's deployment. Two contexts never share one. */
export function deploymentPlace(context: string): { readonly name: string; readonly dir: string } {
  const plain = context.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(
    0,
    30,
  );
  const name = plain === context
    ? plain
    : `${plain}-${hexDigest(context).slice(0, 8)}`.replace(/^-/, "");
  return { name, dir: join(dataDir(), "deployments", name) };
}

function hexDigest(text: string): string {
  return digestBytes(text).replace(/^sha256:/, "");
}

/** Replaces a folder of small files by a copy of another one. */
async function copyFolder(from: string, to: string): Promise<void> {
  const files: Record<string, { data: Uint8Array }> = {};
  for await (const { name, isFile } of Deno.readDir(from)) {
    if (isFile) files[name] = { data: await Deno.readFile(join(from, name)) };
  }
  await replaceDirectory(to, files);
}

/** Takes the instance's set over where the deployment has none of the same authority. */
async function adoptAuthority(instance: string, dir: string): Promise<void> {
  const { paths } = await requireInstance(instance);
  const own: Record<string, { data: string; mode: number }> = {};
  for (const file of PKI_FILES) {
    const data = await readTextIfThere(join(paths.pkiDir, file));
    if (data !== undefined) own[file] = { data, mode: 0o600 };
  }
  if (Object.keys(own).length < PKI_FILES.length) {
    throw new GatewayError({
      code: "pki-invalid",
      what: `Cannot use the certificates of the instance "${instance}"`,
      why: `"${paths.pkiDir}" does not hold all of them`,
      fix: `start it once with \`gateway up --name ${instance}\`, or leave --name out for new ones`,
    });
  }
  if (await readTextIfThere(join(dir, "ca.crt")) === own["ca.crt"]!.data) return;
  await replaceDirectory(dir, own);
}
