/**
 * Folders that last as long as the tests of one file.
 * It must not hold a test.
 *
 * @module
 */
const made: string[] = [];
addEventListener("unload", () => {
  for (const dir of made) Deno.removeSync(dir, { recursive: true });
});

/** A new folder, without links in its path. */
export async function tempDir(): Promise<string> {
  const dir = await Deno.realPath(await Deno.makeTempDir());
  made.push(dir);
  return dir;
}
