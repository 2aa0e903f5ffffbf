/**
 * What a process has mapped of files, as the kernel counts it.
 * It must not know what the files are.
 *
 * @module
 */

/** Of the mappings whose line in smaps the pattern finds: bytes mapped, and those in pages of the process's own. */
export async function mappedOf(
  pid: number,
  pattern: RegExp,
): Promise<{ readonly mapped: number; readonly own: number }> {
  let wanted = false;
  const sums = { Size: 0, Anonymous: 0 };
  for (const line of (await Deno.readTextFile(`/proc/${pid}/smaps`)).split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) wanted = pattern.test(line);
    const [, key, kib] = /^(Size|Anonymous):\s+(\d+) kB/.exec(line) ?? [];
    if (wanted && key) sums[key as keyof typeof sums] += Number(kib) * 1024;
  }
  return { mapped: sums.Size, own: sums.Anonymous };
}
