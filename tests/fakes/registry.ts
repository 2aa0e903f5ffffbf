/**
 * Debian's real docker-registry on loopback with images that our own ocipack built, and a TCP proxy before it that cuts
 * connections when it is told to.
 * It must not answer for the registry: the proxy passes bytes, or stops.
 *
 * @module
 */
import { join } from "@std/path";
import { packerRecipe } from "../../rootfs/images/images.ts";
import { rootfsRecipes } from "../../rootfs/recipes.ts";
import { digestBytes } from "../../vm/base/digest.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { type ChildProcess, run, spawnChild } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";

/** Debian's package of the registry. */
export const REGISTRY_TOOL = { program: "docker-registry", debian: "docker-registry" };

/** The user's own store, found before a test changes HOME. */
const STORE = new ArtifactStore();

/** The user of a registry with `login`. */
export const LOGIN = { username: "someone", password: "pw-4f1c9e" } as const;
/** bcrypt of the password, as htpasswd -B writes it. */
const HASH = "$2b$04$ATsKgGfZZqYpAOsxkXwfnuIHypU41/YCg40h21FOPnWLy.d6hDoP2";

/** How a registry differs from a plain one. */
export interface RegistryOptions {
  /** Insist on {@linkcode LOGIN}. */
  readonly login?: boolean;
  /** Certificate, key and the authority's certificate, PEM. */
  readonly tls?: { readonly certPem: string; readonly keyPem: string; readonly caPem: string };
  /** 127.0.0.1 without it. */
  readonly address?: string;
  readonly port?: number;
}

/** A running registry. */
export class TestRegistry implements AsyncDisposable {
  #child: ChildProcess | undefined;

  private constructor(
    /** Its storage and configuration. */
    readonly dir: string,
    /** As references begin: "127.0.0.1:40123". */
    readonly host: string,
    private readonly options: RegistryOptions,
  ) {}

  /** Starts one with nothing in it. */
  static async start(options: RegistryOptions = {}): Promise<TestRegistry> {
    const { address = "127.0.0.1" } = options;
    const dir = await Deno.makeTempDir({ prefix: "gw-registry-" });
    const port = options.port ?? freePort(address);
    const registry = new TestRegistry(dir, `${address}:${port}`, options);
    const { tls, login } = options;
    if (tls) {
      await Deno.writeTextFile(join(dir, "tls.crt"), tls.certPem);
      await Deno.writeTextFile(join(dir, "tls.key"), tls.keyPem, { mode: 0o600 });
    }
    if (login) {
      await Deno.writeTextFile(join(dir, "htpasswd"), `${LOGIN.username}:${HASH}\n`);
    }
    const files = { certificate: join(dir, "tls.crt"), key: join(dir, "tls.key") };
    await Deno.writeTextFile(
      join(dir, "config.yml"),
      JSON.stringify({
        version: 0.1,
        log: { level: "error" },
        storage: { filesystem: { rootdirectory: join(dir, "data") } },
        http: { addr: registry.host, ...(tls && { tls: files }) },
        ...(login && { auth: { htpasswd: { realm: "test", path: join(dir, "htpasswd") } } }),
      }),
    );
    await registry.up();
    return registry;
  }

  /** Starts it, again after {@linkcode down}. */
  async up(): Promise<void> {
    this.#child = spawnChild(REGISTRY_TOOL.program, {
      args: ["serve", join(this.dir, "config.yml")],
      ownGroup: true,
    });
    const [hostname, port] = this.host.split(":");
    await waitFor({
      what: "the registry",
      probe: async () => {
        (await Deno.connect({ hostname, port: Number(port) })).close();
        return true;
      },
      timeoutMs: 20_000,
      intervalMs: 50,
    });
  }

  /** Ends its process; what it holds stays. */
  async down(): Promise<void> {
    await this.#child?.stop(2000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
    await Deno.remove(this.dir, { recursive: true });
  }

  async #ask(path: string, init: RequestInit = {}): Promise<Response> {
    const { login, tls } = this.options;
    const headers = new Headers(init.headers);
    if (login) headers.set("Authorization", `Basic ${btoa(`${LOGIN.username}:${LOGIN.password}`)}`);
    const url = path.startsWith("http") ? path : `${tls ? "https" : "http"}://${this.host}${path}`;
    using client = Deno.createHttpClient(tls ? { caCerts: [tls.caPem] } : {});
    const response = await fetch(url, { ...init, headers, client });
    if (response.status >= 300) throw new Error(`${path}: ${response.status}`);
    await response.body?.cancel();
    return response;
  }

  /** Puts a blob there; returns its descriptor. */
  async blob(repo: string, bytes: Uint8Array<ArrayBuffer>, mediaType: string): Promise<Descriptor> {
    const digest = `sha256:${digestBytes(bytes)}`;
    const begun = await this.#ask(`/v2/${repo}/blobs/uploads/`, { method: "POST" });
    const location = new URL(begun.headers.get("location")!, begun.url);
    location.searchParams.set("digest", digest);
    await this.#ask(location.href, {
      method: "PUT",
      body: bytes,
      headers: { "Content-Type": "application/octet-stream" },
    });
    return { mediaType, digest, size: bytes.length };
  }

  /** Puts a manifest or index there, under a tag or its digest; returns its descriptor. */
  async manifest(repo: string, value: Record<string, unknown>, tag?: string): Promise<Descriptor> {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    const digest = `sha256:${digestBytes(bytes)}`;
    const mediaType = value.mediaType as string;
    await this.#ask(`/v2/${repo}/manifests/${tag ?? digest}`, {
      method: "PUT",
      body: bytes,
      headers: { "Content-Type": mediaType },
    });
    return { mediaType, digest, size: bytes.length };
  }

  /** Puts an OCI layout's only image there; returns the manifest's descriptor. */
  async push(repo: string, layout: string, tag?: string): Promise<Descriptor> {
    const read = (digest: string) =>
      Deno.readFile(join(layout, "blobs", "sha256", digest.replace("sha256:", "")));
    const index = JSON.parse(await Deno.readTextFile(join(layout, "index.json")));
    const manifest = JSON.parse(
      new TextDecoder().decode(await read(index.manifests[0].digest)),
    );
    for (const { digest, mediaType } of [manifest.config, ...manifest.layers]) {
      await this.blob(repo, await read(digest), mediaType);
    }
    return await this.manifest(repo, manifest, tag);
  }

  /** Puts an index of manifests there that are there already. */
  async index(repo: string, manifests: readonly unknown[], tag?: string): Promise<Descriptor> {
    const mediaType = "application/vnd.oci.image.index.v1+json";
    return await this.manifest(repo, { schemaVersion: 2, mediaType, manifests }, tag);
  }

  /** Where the registry keeps a blob's bytes. */
  fileOf(digest: string): string {
    const sum = digest.replace("sha256:", "");
    const blobs = join(this.dir, "data/docker/registry/v2/blobs/sha256");
    return join(blobs, sum.slice(0, 2), sum, "data");
  }
}

/** An entry of a manifest. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Makes an OCI layout with one layer that holds one file, with ocipack; returns its folder. */
export async function packImage(
  dir: string,
  options: { readonly arch: string; readonly content: Uint8Array; readonly name?: string },
): Promise<string> {
  const span = silentSpan();
  const signal = new AbortController().signal;
  const packer = await STORE.ensure(await packerRecipe(), {
    span,
    signal,
    assumeYes: true,
  });
  const id = crypto.randomUUID().slice(0, 8);
  const tree = join(dir, `tree-${id}`);
  await Deno.mkdir(tree);
  await Deno.writeFile(join(tree, "content"), options.content);
  const layer = join(dir, `layer-${id}.tar`);
  await run("tar", { args: ["-cf", layer, "-C", tree, "content"] });
  const layout = join(dir, `layout-${id}`);
  await run(packer.files["ocipack"]!.path, {
    args: [
      `-name=${options.name ?? "test.local/x:1"}`,
      `-layer=${layer}`,
      `-arch=${options.arch}`,
      "-entrypoint=/content",
      `-output=${layout}`,
    ],
  });
  return layout;
}

/** The OCI layout of an image that clusters have, such as "busybox"; returns its folder. */
export async function programLayout(dir: string, name: string): Promise<string> {
  const options = { span: silentSpan(), signal: new AbortController().signal, assumeYes: true };
  const rootfs = () => rootfsRecipes({ ...options, arch: "amd64", store: STORE });
  // The base first: its packages are in the key of the busybox image.
  await STORE.ensure((await rootfs()).base.recipe, options);
  const { images } = await rootfs();
  const recipe = images.find((one) => one.name === `image-${name}`)!;
  const { files } = await STORE.ensure(recipe, options);
  const layout = join(dir, `layout-${name}`);
  await Deno.mkdir(layout);
  await run("tar", { args: ["-xf", files[`${name}.tar`]!.path, "-C", layout] });
  return layout;
}

/** A port of an address that nobody holds. */
export function freePort(hostname = "127.0.0.1"): number {
  using listener = Deno.listen({ hostname, port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

/** Passes connections on; counts what comes back, and cuts everything once that is `budget` bytes. */
export class CuttingProxy implements Disposable {
  /** Bytes from the registry so far. */
  passed = 0;
  /** Bytes that may still pass before each connection is cut; undefined for no bound. */
  budget: number | undefined;
  /** Bytes a second, to see what happens meanwhile; undefined for no bound. */
  rate: number | undefined;

  readonly #listener: Deno.TcpListener;
  readonly #open = new Set<Deno.TcpConn>();

  /** Listens on loopback before an address. */
  constructor(private readonly target: string) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    void this.#serve();
  }

  /** As references begin. */
  get host(): string {
    return `127.0.0.1:${this.#listener.addr.port}`;
  }

  async #serve(): Promise<void> {
    for await (const near of this.#listener) void this.#pass(near).catch(() => {});
  }

  async #pass(near: Deno.TcpConn): Promise<void> {
    const [hostname, port] = this.target.split(":");
    if (this.budget === 0) return near.close();
    const far = await Deno.connect({ hostname, port: Number(port) });
    for (const one of [near, far]) this.#open.add(one);
    const close = () => {
      for (const one of [near, far]) {
        this.#open.delete(one);
        try {
          one.close();
        } catch {
          // The stream on it closed it.
        }
      }
    };
    const up = near.readable.pipeTo(far.writable).catch(() => {});
    const buffer = new Uint8Array(32 * 1024);
    try {
      for (let read = await far.read(buffer); read !== null; read = await far.read(buffer)) {
        const may = Math.min(read, this.budget ?? read);
        for (let at = 0; at < may;) at += await near.write(buffer.subarray(at, may));
        this.passed += may;
        if (this.budget !== undefined) this.budget -= may;
        if (this.budget === 0) break;
        if (this.rate) await new Promise((done) => setTimeout(done, read * 1000 / this.rate!));
      }
    } finally {
      close();
      await up;
    }
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const one of this.#open) one.close();
  }
}
