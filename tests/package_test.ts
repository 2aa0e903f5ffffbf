// deno-lint-ignore-file no-console
/**
 * The Debian package in a chroot of Debian, and the Homebrew formula before Ruby; Homebrew itself is not run.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { basename, fromFileUrl, join } from "@std/path";
import { makeDeb } from "../bootstrap/package/deb.ts";
import { formulaText } from "../bootstrap/package/formula.ts";
import { makeOneFile } from "../bootstrap/package/one_file.ts";
import { rootfsRecipes } from "../rootfs/recipes.ts";
import { digestFile } from "../vm/base/digest.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ensureTools } from "../vm/base/host_tools.ts";
import { run } from "../vm/base/process.ts";
import { ArtifactStore } from "../vm/store/artifact.ts";
import { RUBY_TOOL } from "./fakes/shell_tools.ts";

const options = {
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
};
await ensureTools([RUBY_TOOL], options);

async function withFile(fn: (file: string, dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gw-" });
  try {
    await makeOneFile(join(dir, "gateway"), options.signal);
    await fn(join(dir, "gateway"), dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Packages that ours depends on, as empty ones; the chroot has OpenSSH's own. */
const STUBS = ["qemu-system-x86", "openssh-client"];

/** Runs inside the chroot; every line that it prints is looked at. */
const INSIDE = `set -eu
export HOME=/tmp/home LC_ALL=C
mkdir -p /tmp/home
# The root image's base leaves documents out of what it installs.
rm -f /etc/dpkg/dpkg.cfg.d/*
everything() { find / -xdev -path /proc -prune -o -path /tmp -prune -o -path /var/lib/dpkg -prune -o -path /var/log -prune -o -print | sort; }
for deb in /tmp/debs/stub-*.deb; do
  name=\${deb#*/stub-}
  dpkg -s "\${name%.deb}" >/dev/null 2>&1 || dpkg -i "$deb" >/dev/null
done
everything >/tmp/before
if dpkg -r qemu-system-x86 >/dev/null && dpkg -i /tmp/debs/gateway_*.deb >/dev/null 2>&1; then echo installed without qemu; fi
dpkg -r gateway >/dev/null 2>&1 || true
dpkg -i /tmp/debs/stub-qemu-system-x86.deb >/dev/null
dpkg -i /tmp/debs/gateway_*.deb >/dev/null
dpkg --audit
dpkg -V gateway
dpkg -L gateway
gateway --version | head -1
gateway list --json
zcat /usr/share/man/man1/gateway.1.gz | head -1
dpkg -r gateway >/dev/null
dpkg -P gateway >/dev/null 2>&1 || true
everything >/tmp/after
cmp /tmp/before /tmp/after && echo nothing is left
`;

const probe = await run("unshare", { args: ["-m", "true"], check: false });
if (probe.code !== 0) console.log(`skipped, a package in a chroot: ${probe.stderr}`);

Deno.test({
  name: "the Debian package installs, works and is removed without a trace in a chroot",
  ignore: probe.code !== 0,
  fn: () =>
    withFile(async (file, dir) => {
      const store = new ArtifactStore();
      const { base } = await rootfsRecipes({ ...options, store, arch: "amd64" });
      const root = join(dir, "root");
      await Deno.mkdir(join(root, "tmp/debs"), { recursive: true });
      const { files } = await store.ensure(base.recipe, options);
      await run("tar", { args: ["-xf", files["base.tar"]!.path, "-C", root] });
      for (const name of STUBS) await stub(name, join(root, "tmp/debs"));
      const deb = await makeDeb(file, "amd64", options.signal);
      await Deno.copyFile(deb, join(root, "tmp/debs", basename(deb)));
      const mounts = 'mount -t proc proc "$1/proc" && mount -t tmpfs dev "$1/dev" && ' +
        'touch "$1/dev/null" && mount --bind /dev/null "$1/dev/null" && exec chroot "$1" sh -c "$2"';
      const { stdout } = await run("unshare", {
        args: ["-m", "sh", "-c", mounts, "sh", root, INSIDE],
        env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", XDG_CACHE_HOME: "", XDG_DATA_HOME: "" },
        timeoutMs: 5 * 60_000,
      });
      const lines = stdout.trim().split("\n");
      for (
        const name of [
          ...["/usr/bin/gateway", "/usr/share/man/man1/gateway.1.gz"],
          "/usr/share/bash-completion/completions/gateway",
          ...["/usr/share/zsh/vendor-completions/_gateway", "/usr/share/doc/gateway/copyright"],
          "/usr/share/fish/vendor_completions.d/gateway.fish",
        ]
      ) assert(lines.includes(name), `${name} is not in ${stdout}`);
      assertEquals(lines.slice(0, 1), ["/."], stdout);
      const [version = "", list, man = "", end] = lines.slice(-4);
      assert(/^gateway \d+\.\d+\.\d+$/.test(version), stdout);
      assertEquals([list, end], ["[]", "nothing is left"]);
      assertStringIncludes(man, ".TH GATEWAY 1");
    }),
});

async function stub(name: string, dir: string): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "gw-" });
  await Deno.chmod(root, 0o755);
  await Deno.mkdir(join(root, "DEBIAN"));
  await Deno.writeTextFile(
    join(root, "DEBIAN/control"),
    `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: a test <test@localhost>\nDescription: nothing\n`,
  );
  const path = join(dir, `stub-${name}.deb`);
  await run("dpkg-deb", { args: ["--root-owner-group", "--build", root, path] });
  await Deno.remove(root, { recursive: true });
}

Deno.test("the formula is Ruby, names the digest of each system's file, and installs it", () =>
  withFile(async (file, dir) => {
    const formula = join(dir, "gateway.rb");
    const download = join(dir, "download");
    await Deno.mkdir(download);
    const files = {
      "linux-x64": join(download, "gateway-linux-x64"),
      "linux-arm64": join(dir, "gateway-linux-arm64"),
      "darwin-arm64": join(dir, "gateway-darwin-arm64"),
    };
    await Deno.copyFile(file, files["linux-x64"]);
    await Deno.writeTextFile(files["linux-arm64"], "for Linux");
    await Deno.writeTextFile(files["darwin-arm64"], "for a Mac");
    await Deno.writeTextFile(formula, await formulaText(files, "https://example.invalid/v1/"));
    await run("ruby", { args: ["-wc", formula] });
    const fake = fromFileUrl(new URL("fakes/formula.rb", import.meta.url));
    const prefix = join(dir, "prefix");
    const read = async (system: string, ...into: string[]) => {
      const { stdout } = await run("ruby", {
        args: [fake, formula, ...into],
        env: { XDG_CACHE_HOME: join(dir, "cache"), FORMULA_SYSTEM: system },
        timeoutMs: 60_000,
      });
      return stdout.trim().split("\n");
    };
    for (
      const [target, system, needs] of [
        ["linux-x64", "linux intel", "qemu"],
        ["linux-arm64", "linux arm", "qemu"],
        ["darwin-arm64", "macos arm", "libkrun/krun/libkrun"],
      ] as const
    ) {
      const facts = await read(system);
      for (
        const fact of [
          `url https://example.invalid/v1/gateway-${target}`,
          `sha256 ${await digestFile(files[target])}`,
          `depends_on ${needs}`,
          "license Apache-2.0",
        ]
      ) assert(facts.includes(fact), `${fact} is not in ${facts.join("\n")}`);
    }
    assertEquals((await read("macos intel")).some((fact) => fact.startsWith("url ")), false);
    await read("linux intel", download, prefix);
    for (
      const [name, text] of [
        ["share/man/man1/gateway.1", ".TH GATEWAY 1"],
        ["completions/bash", "complete -F _gateway gateway"],
        ["completions/zsh", "#compdef gateway"],
        ["completions/fish", "complete -c gateway"],
      ] as const
    ) assertStringIncludes(await Deno.readTextFile(join(prefix, name)), text);
    const error = await assertRejects(() => formulaText(files, "gateway.tar"), GatewayError);
    assertEquals(error.code, "usage");
  }));
