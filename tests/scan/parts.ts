/**
 * What the project is compiled from, out of its lock files: Go modules, Rust crates and npm packages with their exact
 * versions.
 *
 * @module
 */
import { join, relative } from "@std/path";

/** One package of a lock file. */
export interface Part {
  /** As the database calls it. */
  readonly ecosystem: "Go" | "crates.io" | "npm";
  readonly name: string;
  readonly version: string;
  /** The lock file, from the top. */
  readonly file: string;
}

type Named = Pick<Part, "name" | "version">;

const READERS: Readonly<Record<string, readonly [Part["ecosystem"], (text: string) => Named[]]>> = {
  "go.mod": ["Go", goModules],
  "Cargo.lock": ["crates.io", crates],
  "deno.lock": ["npm", npmPackages],
};

/** The parts of every lock file below a folder. */
export async function allParts(top: string): Promise<Part[]> {
  const found: Part[] = [];
  const walk = async (dir: string) => {
    for await (const { name, isDirectory } of Deno.readDir(dir)) {
      const path = join(dir, name);
      if (isDirectory && !/^(\.|node_modules$|dist$)/.test(name)) await walk(path);
      if (isDirectory || !Object.hasOwn(READERS, name)) continue;
      const [ecosystem, read] = READERS[name]!;
      const file = relative(top, path);
      const parts = read(await Deno.readTextFile(path));
      found.push(...parts.map((part) => ({ ecosystem, ...part, file })));
    }
  };
  await walk(top);
  return found.sort((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : 0));
}

/** The modules that a go.mod requires, those below them too; what one is replaced by counts. */
export function goModules(text: string): Named[] {
  const lines = text.split("\n").map((line) => line.replace(/\/\/.*$/, "").trim());
  const replaced = new Map<string, Named>();
  const required: Named[] = [];
  for (const line of lines) {
    const replace = /^(?:replace\s+)?(\S+)(?: v\S+)? => (\S+) (v\S+)$/.exec(line);
    const require = /^(?:require\s+)?([^\s()]+\.[^\s()]+) (v\S+)$/.exec(line);
    if (replace) replaced.set(replace[1]!, { name: replace[2]!, version: replace[3]!.slice(1) });
    else if (require) required.push({ name: require[1]!, version: require[2]!.slice(1) });
  }
  return required.map((one) => replaced.get(one.name) ?? one);
}

/** The crates of a Cargo.lock that come from a registry. */
export function crates(text: string): Named[] {
  return text.split("[[package]]").flatMap((block) => {
    const field = (name: string) => new RegExp(`^${name} = "(.+)"$`, "m").exec(block)?.[1];
    const [name, version, source] = ["name", "version", "source"].map(field);
    return name && version && source?.startsWith("registry+") ? [{ name, version }] : [];
  });
}

/** The npm packages of a deno.lock; what follows `_` in a key are peers. */
export function npmPackages(text: string): Named[] {
  const { npm = {} } = JSON.parse(text) as { npm?: Record<string, unknown> };
  return Object.keys(npm).flatMap((key) => {
    const match = /^(@?[^@]+)@([^_]+)/.exec(key);
    return match ? [{ name: match[1]!, version: match[2]! }] : [];
  });
}
