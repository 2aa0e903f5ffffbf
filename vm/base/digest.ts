/**
 * Digests of files and source trees.
 * It must not decide what a digest is used for.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { fromFileUrl, join } from "@std/path";
import type { JsonValue } from "./event.ts";

/** sha256 of a file's bytes, hexadecimal; reads in 1 MiB pieces. */
export async function digestFile(path: string): Promise<string> {
  using file = await Deno.open(path);
  const hash = createHash("sha256");
  const buffer = new Uint8Array(1 << 20);
  for (;;) {
    const read = await file.read(buffer);
    if (read === null) return hash.digest("hex");
    hash.update(buffer.subarray(0, read));
  }
}

/** sha256 of a text or bytes, hexadecimal. */
export function digestBytes(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/**
 * sha256 over the relative names, executable bits and bytes of every file below a folder (or of one file), in
 * name order: the same tree has the same digest on every machine. Tests, documents and dot files do not count unless `skip` is given.
 */
export async function digestTree(
  root: string | URL,
  options: { readonly skip?: RegExp } = {},
): Promise<string> {
  const top = root instanceof URL ? fromFileUrl(root) : root;
  const skip = options.skip ?? /(^|\/)\.|_test\.(go|ts)$|\.md$|\/testdata\//;
  const lines: string[] = [];
  const info = await Deno.stat(top);
  if (info.isFile) return await digestFile(top);
  await walk(top, "", skip, lines);
  return digestBytes(lines.sort().join("\n"));
}

async function walk(top: string, below: string, skip: RegExp, lines: string[]): Promise<void> {
  for await (const entry of Deno.readDir(join(top, below))) {
    const name = below === "" ? entry.name : `${below}/${entry.name}`;
    if (skip.test(name)) continue;
    if (entry.isDirectory) {
      await walk(top, name, skip, lines);
      continue;
    }
    const path = join(top, name);
    if (entry.isSymlink) {
      lines.push(`${name}\0link\0${await Deno.readLink(path)}`);
      continue;
    }
    const executable = (((await Deno.stat(path)).mode ?? 0) & 0o111) !== 0;
    lines.push(`${name}\0${executable ? "x" : "-"}\0${await digestFile(path)}`);
  }
}

/** JSON with sorted keys, so that equal values have equal text. */
export function canonicalJson(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value as Record<string, JsonValue>)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`);
    return `{${entries.join(",")}}`;
  }
  return JSON.stringify(value);
}
