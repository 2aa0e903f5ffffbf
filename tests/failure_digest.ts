/**
 * The end of a long output is what a CI keeps: the first failures of a group in a few lines each.
 * It must not hold a test.
 *
 * @module
 */

const MOST_FAILURES = 3;
const MOST_LINES = 14;
const LINE_LENGTH = 200;

/** What a group's output says of its failures: name, place and reason of the first ones. Ends with a line break. */
export function failureDigest(group: string, output: string): string {
  // deno test puts all errors below one heading and their names once more below another.
  const errors = output.split("\n ERRORS \n")[1]?.split("\n FAILURES \n")[0];
  if (errors === undefined) return entry(`${group} failed`, output.trim().split("\n").slice(-5));
  // A failure begins with a line of its test's name and place.
  const found = errors.split(/\n(?=.+ => \S+:\d+:\d+\n)/).map((text) => text.trim())
    .filter((text) => text !== "");
  const told = found.slice(0, MOST_FAILURES).map((text) => {
    const [place = "", ...lines] = text.split("\n");
    const stack = lines.findIndex((line) => /^\s+at |^--- /.test(line));
    return entry(place, stack < 0 ? lines : lines.slice(0, stack));
  });
  const more = found.length - told.length;
  return told.join("") + (more > 0 ? `and ${more} more in ${group}\n` : "");
}

function entry(title: string, lines: readonly string[]): string {
  const kept = lines.filter((line) => line.trim() !== "").slice(0, MOST_LINES);
  return [title, ...kept.map((line) => `  ${line}`)].map((line) => line.slice(0, LINE_LENGTH))
    .join("\n") + "\n";
}
