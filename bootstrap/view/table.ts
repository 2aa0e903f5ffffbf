/**
 * Tables for people: 80 columns, no colour. Pure.
 *
 * @module
 */

/** What a terminal has at least. */
export const LINE_WIDTH = 80;

/** Labels on the left, values beside them, broken at 80 columns. */
export function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.flatMap(([label, value]) =>
    wrap(value, LINE_WIDTH - width - 2).map((line, at) =>
      `${(at === 0 ? label : "").padEnd(width)}  ${line}`
    )
  ).join("\n");
}

/** Lines of at most so many characters, broken between words; a longer word stays whole, so that it can be copied. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  // Runs of spaces belong to what they separate.
  for (const word of text.split(/(?<=\S)(?= )/)) {
    if (line !== "" && line.length + word.length > width) {
      lines.push(line);
      line = word.trimStart();
    } else line += word;
  }
  return [...lines, line];
}

/** Rows in columns as wide as their widest cell, two spaces between them. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  return rows.map((row) => row.map((cell, at) => cell.padEnd(widths[at]!)).join("  ").trimEnd());
}
