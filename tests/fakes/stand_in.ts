/**
 * A user's home in which the real command line starts instances without a VM: programs that stand for QEMU and ssh come
 * first on its PATH, and the artifacts that only a guest would use are empty. Everything else is the product's.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { allRecipes } from "../../bootstrap/artifacts/ensure.ts";
import { gvproxyRecipe } from "../../net/gvproxy_recipe.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { cacheDir } from "../../vm/base/layout.ts";
import { LineConnection } from "../../vm/base/lines.ts";
import { run } from "../../vm/base/process.ts";
import { ArtifactStore, type Recipe } from "../../vm/store/artifact.ts";
import { FROM_SOURCES, TestHome } from "../vm/harness.ts";
import { runRecord } from "../vm/instance_files.ts";
import { fakeKernel } from "./kernel.ts";

const QEMU = fromFileUrl(new URL("qemu.ts", import.meta.url));
const CONFIG = fromFileUrl(new URL("../../deno.json", import.meta.url));
const signal = new AbortController().signal;
const how = { span: silentSpan(), signal, assumeYes: true };

/** What a guest's shell would answer to the few commands that the host runs there. */
const SSH = `#!/bin/sh
for word; do command=$word; done
case $command in
  *"'blobs'"*) exit 1 ;;
  *"'import'"*) cat >/dev/null ;;
esac
`;

/** Nothing of it is given to an instance, and a port that is open at all is ready. */
const PAYLOAD = `\
name: nothing
namespace: nothing
manifests: [one.yaml]
service: {nodePort: 30051, protocol: tcp, health: {timeoutSeconds: 60}}
`;

const manifestText = (edition: string) =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${edition}, namespace: nothing}\n`;

/** A home with stand-ins; disposing ends what runs there. */
export interface StandIn extends AsyncDisposable {
  readonly home: TestHome;
  /** Programs, artifacts, payloads and what the stand-ins leave for the test. */
  readonly top: string;
  /** Writes one of two editions of the payload that its instances run. */
  readonly edit: (edition: Edition) => Promise<void>;
}

/** Of a payload. */
export type Edition = "first" | "second";

/** Makes the home. */
export async function makeStandIn(): Promise<StandIn> {
  const top = await Deno.makeTempDir({ prefix: "gs-" });
  const bin = join(top, "bin");
  await Deno.mkdir(bin);
  const deno = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", "--config", CONFIG];
  const denoDir = Deno.env.get("DENO_DIR") ?? join(Deno.env.get("HOME") ?? "/", ".cache", "deno");
  await writeProgram(
    join(bin, "qemu-system-x86_64"),
    `#!/bin/sh\nDENO_DIR='${denoDir}' exec ${deno.join(" ")} '${QEMU}' '${top}' "$@"\n`,
  );
  await writeProgram(join(bin, "ssh"), SSH);
  const payload = join(top, "payload");
  await Deno.mkdir(payload);
  const edit = async (edition: Edition) => {
    await Deno.writeTextFile(join(payload, "payload.yaml"), PAYLOAD);
    await Deno.writeTextFile(join(payload, "one.yaml"), manifestText(edition));
  };
  await edit("first");
  await fillStore(join(top, "cache", "gateway"));
  const home = await TestHome.make(FROM_SOURCES, {
    XDG_CACHE_HOME: join(top, "cache"),
    PATH: `${bin}:${Deno.env.get("PATH")}`,
    GATEWAY_PAYLOAD: payload,
  });
  return {
    home,
    top,
    edit,
    async [Symbol.asyncDispose]() {
      await Deno.remove(join(top, "hold")).catch(() => {});
      await home[Symbol.asyncDispose]();
      await Deno.remove(top, { recursive: true });
    },
  };
}

/** The artifacts of a start: gvproxy is the real one. */
async function fillStore(root: string): Promise<void> {
  const store = new ArtifactStore(root, { keysDir: join(root, "no-keys") });
  const gvproxy = await new ArtifactStore(cacheDir()).ensure(await gvproxyRecipe(), how);
  const library = join(root, "library.so");
  await Deno.mkdir(root, { recursive: true });
  // The stand-in starts programs, which the real library would forbid.
  await run("cc", { args: ["-shared", "-o", library, "-x", "c", "/dev/null"] });
  const content: Readonly<Record<string, Uint8Array<ArrayBuffer>>> = {
    vmlinux: fakeKernel(),
    "ramshim.so": await Deno.readFile(library),
    gvproxy: await Deno.readFile(gvproxy.files.gvproxy!.path),
    tsckhz: new TextEncoder().encode("#!/bin/sh\necho 2000000\n"),
  };
  const made = (recipe: Recipe): Recipe => ({
    ...recipe,
    tools: [],
    build: async ({ outDir }) => {
      for (const name of recipe.outputs) {
        await Deno.writeFile(join(outDir, name), content[name] ?? new Uint8Array(1), {
          mode: 0o755,
        });
      }
    },
  });
  const { base } = (await allRecipes(how, store)).rootfs;
  await store.ensure({ ...made(base.recipe), build: writeBase }, how);
  // What the base was made of is in the key of the root image.
  const { kernel, rootfs, gvproxy: network, ofLinux } = await allRecipes(how, store);
  for (const recipe of [kernel, rootfs.root, network, ...ofLinux]) {
    await store.ensure(made(recipe), how);
  }
}

async function writeBase({ outDir }: { readonly outDir: string }) {
  await Deno.writeTextFile(join(outDir, "base.tar"), "");
  return { packages: {} };
}

async function writeProgram(path: string, text: string): Promise<void> {
  await Deno.writeTextFile(path, text, { mode: 0o755 });
}

/** What the guest of an instance has in its memory and on its disk; writes it first where a number is given. */
export async function guestNote(
  home: TestHome,
  name: string,
  write?: number,
): Promise<{ readonly memory: number; readonly disk: number }> {
  const { runtimeDir } = await runRecord(join(home.home, "data/gateway/instances", name));
  using guest = (await LineConnection.connect(join(runtimeDir!, "vm/guest")))!;
  await guest.say(write === undefined ? "" : String(write));
  const what = "the guest's note";
  return JSON.parse((await guest.hear({ what, timeoutMs: 10_000, signal }))!);
}
