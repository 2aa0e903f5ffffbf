// deno-lint-ignore-file no-console
/**
 * The one file with everything in it, on a machine that has QEMU and OpenSSH's client and nothing to build with: a mount
 * and a network namespace in which compilers, Go, Node, Deno, the checkout and every network are gone.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { packForEmbedding } from "../../bootstrap/package/embed.ts";
import { makeOneFile } from "../../bootstrap/package/one_file.ts";
import { thisHost } from "../../vm/base/arch.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run, which } from "../../vm/base/process.ts";
import { freePort, TestHome } from "./harness.ts";

const BARE = fromFileUrl(new URL("../fakes/bare_machine.sh", import.meta.url));
const REPO = fromFileUrl(new URL("../..", import.meta.url));
const MIB = 1024 * 1024;

/** The walk of a user on that machine; what it prints is looked at. */
const WALK = `set -eu
file=$1 port=$2
"$file" up --detach --cold --port "$port:30051" --memory 3072 --cpus 2 >&2
mtls=$XDG_CONFIG_HOME/openshell/gateways/gateway/mtls
curl -sS --cacert "$mtls/ca.crt" --cert "$mtls/tls.crt" --key "$mtls/tls.key" "https://127.0.0.1:$port/"
"$file" exec -- uname -n
"$file" kubectl -- get nodes --no-headers
"$file" status --timeline
"$file" down
"$file" doctor
`;

const probe = await run("unshare", { args: ["-m", "-n", "true"], check: false });
if (probe.code !== 0) console.log(`skipped, one file on a bare machine: ${probe.stderr}`);

Deno.test({
  name: "one file boots a cluster on a machine that has QEMU and nothing to build with",
  ignore: probe.code !== 0,
  fn: async () => {
    await using home = await TestHome.make();
    const { signal } = new AbortController();
    const file = join(home.home, "gateway");
    const packed = await packForEmbedding(thisHost(), {
      span: silentSpan(),
      signal,
      assumeYes: true,
    });
    await makeOneFile(file, signal, packed);
    assert((await Deno.stat(file)).size <= 350 * MIB);
    const names = packed.map(({ manifest }) => manifest.name);
    assertEquals(names.slice(0, 5), ["kernel", "root", "gvproxy", "tsckhz", "ramshim"]);
    await Deno.mkdir(join(home.home, "run"));
    const go = which("go");
    // Home last: the others may be in it, and could not be found any more.
    const hidden = [
      ...[REPO, dirname(Deno.execPath())],
      ...(go === undefined ? [] : [dirname(await Deno.realPath(go))]),
      Deno.env.get("HOME")!,
    ];
    const { DENO_DIR: _, GATEWAY_YES: __, ...env } = home.env;
    // The script's own folder is one of those that disappear.
    const bare = join(home.home, "bare.sh");
    await Deno.copyFile(BARE, bare);
    const { code, stdout, stderr } = await run("unshare", {
      args: [
        ...["-m", "-n", bare, hidden.join(":"), "sh", "-c", WALK, "sh", file],
        String(freePort()),
      ],
      env: { ...env, XDG_CACHE_HOME: join(home.home, "cache") },
      check: false,
      timeoutMs: 15 * 60_000,
    });
    assertEquals(code, 0, `${stdout}${stderr}`);
    assertMatch(stdout, /^gateway demo\n/);
    assertMatch(stdout, /^gateway +Ready /m);
    // The demo needs nothing of a registry, and of the base only the record of its packages is there.
    const used = packed.filter(({ manifest, files }) =>
      manifest.name !== "ocipull" && files.length > 0
    );
    for (const { manifest } of used) assertStringIncludes(stdout, `unpack ${manifest.name}`);
    // Doctor's report comes last.
    const [walk = "", report = ""] = stdout.split(/^(?=ok +host: )/m);
    assert(!/\bbuild \w/.test(walk), stdout);
    assertMatch(report, /^ok +build tools: none needed/m);
    // A chunk of the bundle may be called like what a run leaves.
    const left = (await home.leftovers()).filter((path) => !path.includes("/bundle/"));
    assertEquals([home.processes(), left], [[], []]);
  },
});
