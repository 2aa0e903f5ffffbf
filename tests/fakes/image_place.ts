/**
 * A user of their own for tests of pulls: a store that has the puller from the real one, settings, and what a refusal
 * must not tell. And content for images.
 * It must not pull into the user's real store.
 *
 * @module
 */
import { assert, assertRejects } from "@std/assert";
import { basename, join } from "@std/path";
import { ensureImages, type ImageArchive } from "../../bootstrap/images/ensure.ts";
import { pullerRecipe } from "../../rootfs/images/pulled.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { LOGIN } from "./registry.ts";

export const MIB = 1024 * 1024;
/** The user's own, found before a test changes HOME. */
const REAL_STORE = new ArtifactStore();

/** Bytes that no compression makes smaller, the same for the same seed. */
export function noise(bytes: number, seed: number): Uint8Array {
  const words = new Uint32Array(bytes / 4);
  let state = seed * 2654435761 >>> 0 || 1;
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return new Uint8Array(words.buffer);
}

/** Folders of one test: a store whose Go caches are the real ones, and a user's settings. */
export class Place implements AsyncDisposable {
  readonly #before = new Map<string, string | undefined>();

  private constructor(readonly dir: string, readonly root: string) {}

  static async make(root?: string): Promise<Place> {
    const dir = await Deno.makeTempDir({ prefix: "gw-images-" });
    const place = new Place(dir, root ?? join(dir, "cache"));
    await place.#takePuller();
    place.set("XDG_CONFIG_HOME", join(dir, "config"));
    place.set("DOCKER_CONFIG", join(dir, "docker"));
    place.set("HOME", dir);
    return place;
  }

  /** The puller is built once, in the real store. */
  async #takePuller(): Promise<void> {
    const { span, signal } = this.options();
    const puller = await REAL_STORE.ensure(await pullerRecipe(), { span, signal, assumeYes: true });
    const { path, sha256 } = puller.files["ocipull"]!;
    const blobs = join(this.root, "artifacts/sha256", sha256);
    const manifest = REAL_STORE.manifestPath(puller.name, puller.key);
    await Deno.mkdir(blobs, { recursive: true });
    await Deno.symlink(path, join(blobs, "ocipull"));
    await Deno.mkdir(join(this.root, "artifacts/manifests"), { recursive: true });
    await Deno.copyFile(manifest, join(this.root, "artifacts/manifests", basename(manifest)));
  }

  /** Forgets what was pulled; with `blobs`, also what the archives were made of. */
  async forget(blobs = true): Promise<void> {
    const manifests = join(this.root, "artifacts/manifests");
    for await (const { name } of Deno.readDir(manifests)) {
      if (name.startsWith("pulled-")) await Deno.remove(join(manifests, name));
    }
    if (blobs) await Deno.remove(join(this.root, "blobs"), { recursive: true });
  }

  set(name: string, value: string): void {
    if (!this.#before.has(name)) this.#before.set(name, Deno.env.get(name));
    Deno.env.set(name, value);
  }

  /** Writes registries.yaml (JSON is YAML). */
  async registries(value: unknown): Promise<void> {
    await Deno.mkdir(join(this.dir, "config/gateway"), { recursive: true });
    const path = join(this.dir, "config/gateway/registries.yaml");
    await Deno.writeTextFile(path, JSON.stringify(value), { mode: 0o600 });
  }

  options(signal = new AbortController().signal) {
    const store = new ArtifactStore(this.root);
    return { arch: "amd64" as const, store, span: silentSpan(), signal, assumeYes: true };
  }

  async pull(ref: string, digest: string, signal?: AbortSignal): Promise<ImageArchive> {
    return (await ensureImages([{ ref, digest }], this.options(signal)))[0]!;
  }

  /** The error of a pull that has to fail. */
  async refused(ref: string, digest: string): Promise<GatewayError> {
    const error = await assertRejects(() => this.pull(ref, digest), GatewayError);
    assert(!JSON.stringify(error).includes(LOGIN.password), "a secret is in an error");
    return error;
  }

  /** Files of the blob cache that are not whole. */
  async partial(): Promise<string[]> {
    const all = await Array.fromAsync(Deno.readDir(join(this.root, "blobs")));
    return all.map(({ name }) => name).filter((name) => name.endsWith(".part"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [name, value] of this.#before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
    await Deno.remove(this.dir, { recursive: true });
  }
}
