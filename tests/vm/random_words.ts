/**
 * What a guest and its clones draw from the kernel's random generator around a fork.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import type { Client } from "./client.ts";
import type { TestHome } from "./harness.ts";

const WORDS = "/dev/shm/words";

/**
 * Starts a guest's loop that draws random words and keeps each with its time; gives its process number. It draws when its
 * programs go on, and leaves two clones and their source most of the processors.
 */
export async function drawWords(client: Client): Promise<string> {
  // The time first: a word that is newer than the save then has a time that is.
  const loop = `while read -r up _ </proc/uptime; do
    read -r word </proc/sys/kernel/random/uuid; echo "$up $word"; sleep 0.3; done`;
  return (await client.sh(`sh -c '${loop}' >${WORDS} 2>/dev/null & echo $!; sleep 1`)).trim();
}

/** What two of the source and its clones drew alike is older than the moment at which the programs were frozen. */
export async function assertNoCommonWords(
  home: TestHome,
  client: Client,
  loop: string,
): Promise<void> {
  const frozen = (await home.events("default"))
    .findLast(({ attrs }) => attrs?.frozenAt !== undefined)!;
  const drawn = await Promise.all(["default", "left", "right"].map(async (name) => {
    const text = await client.sh(`kill ${loop}; cat ${WORDS}; rm ${WORDS}`, name);
    return new Map(
      text.trim().split("\n").map((line) => {
        const [up, word] = line.split(" ");
        return [word, Number(up)];
      }),
    );
  }));
  for (const [at, one] of drawn.entries()) {
    const after = [...one].filter(([, up]) => up > Number(frozen.attrs!.frozenAt));
    assert(after.length > 0, "the loop drew nothing after the save");
    for (const other of drawn.toSpliced(at, 1)) {
      assertEquals(after.filter(([word]) => other.has(word)), []);
      assert([...one.keys()].some((word) => other.has(word)), "they have no common past");
    }
  }
}
