/**
 * The stock libkrunfw, whose kernel alone has TSI: this host's, or Debian's package from the host's own mirror, unpacked
 * and not installed.
 * It must not change what is installed, nor where this host gets its packages from.
 *
 * @module
 */
import { join } from "@std/path";
import { firmwareCandidates } from "../../ffi/library.ts";
import { describeError } from "../../vm/base/error.ts";
import { run } from "../../vm/base/process.ts";
import { tsiFirmware } from "../../vm/libkrun/find.ts";

const PACKAGE = "libkrunfw5";
const SUITE = "sid";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** A file, or why there is none. */
export type StockFirmware = { readonly path: string } | { readonly why: string };

/** Looks for one, and fetches one below a folder when there is none. */
export async function stockFirmware(dir: string): Promise<StockFirmware> {
  for (const path of firmwareCandidates("/usr/lib/libkrun.so.1", "linux", "x86_64")) {
    const found = await tsiFirmware(path).catch(() => undefined);
    if (found !== undefined) return { path: await Deno.realPath(found) };
  }
  try {
    const tree = await unpackPackage(join(dir, "firmware"));
    const { stdout } = await run("find", {
      args: [tree, "-name", "libkrunfw.so.5*", "-type", "f"],
    });
    return { path: await tsiFirmware(stdout.trim()) };
  } catch (error) {
    return { why: `there is no stock libkrunfw: ${describeError(error)}` };
  }
}

async function unpackPackage(dir: string): Promise<string> {
  for (const name of ["lists/partial", "cache/archives/partial", "tree"]) {
    await Deno.mkdir(join(dir, name), { recursive: true });
  }
  const format = "$(ORIGIN) $(COMPONENT) $(REPO_URI)";
  const targets = await run("apt-get", { args: ["indextargets", "--format", format] });
  const mirror = /^Debian main (\S+)$/m.exec(targets.stdout)?.[1];
  if (mirror === undefined) throw new Error("this host's packages are not Debian's");
  const list = join(dir, "sources.list");
  await Deno.writeTextFile(list, `deb [signed-by=${KEYRING}] ${mirror} ${SUITE} main\n`);
  const options = {
    "Dir::Etc::SourceList": list,
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::State::Lists": join(dir, "lists"),
    "Dir::Cache": join(dir, "cache"),
    "APT::Sandbox::User": "",
    "Acquire::Languages": "none",
    "Acquire::Retries": "3",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
  };
  const words = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const apt = (...args: string[]) =>
    run("apt-get", { args: [...words, ...args], cwd: dir, timeoutMs: 120_000 });
  await apt("update");
  await apt("download", PACKAGE);
  const deb = [...Deno.readDirSync(dir)].find(({ name }) => name.endsWith(".deb"))!.name;
  await run("dpkg-deb", { args: ["-x", deb, "tree"], cwd: dir, timeoutMs: 60_000 });
  return join(dir, "tree");
}
