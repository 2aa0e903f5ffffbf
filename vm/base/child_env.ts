/**
 * The environment of programs that a guest talks to: QEMU and gvproxy. Users keep tokens in theirs, which a guest that
 * breaks out of its VMM would find first.
 *
 * @module
 */

/** What a program and its libraries look for. None of it is a secret. */
const KEPT = [
  "PATH",
  "HOME",
  "TMPDIR",
  "LANG",
  "LD_LIBRARY_PATH",
  "DYLD_LIBRARY_PATH",
  "DYLD_FALLBACK_LIBRARY_PATH",
  "XDG_RUNTIME_DIR",
];

/** Options for a program that gets none of the user's other variables. `own` comes on top. */
export function clearedEnv(
  own: Readonly<Record<string, string>> = {},
): { readonly clearEnv: true; readonly env: Readonly<Record<string, string>> } {
  const kept = KEPT.map((name) => [name, Deno.env.get(name)] as const)
    .filter((pair): pair is readonly [string, string] => pair[1] !== undefined);
  return { clearEnv: true, env: { ...Object.fromEntries(kept), ...own } };
}
