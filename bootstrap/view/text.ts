/**
 * Small pieces of text that the progress view and the timeline share: cutting, padding, times, colour.
 *
 * @module
 */

/** The colours the views use, as their ANSI codes. */
const CODES: Readonly<Record<Paint, number>> = {
  dim: 2,
  bold: 1,
  red: 31,
  green: 32,
  yellow: 33,
  cyan: 36,
};

/** Name of a colour or weight. */
export type Paint = "dim" | "bold" | "red" | "green" | "yellow" | "cyan";

/** The text in a colour when `color` is true, else as it is. */
export function paint(text: string, style: Paint, color: boolean): string {
  return color && text !== "" ? `\x1b[${CODES[style]}m${text}\x1b[0m` : text;
}

/** A number of bytes, such as "12.0 MiB". */
export function bytesText(bytes: number): string {
  const mib = bytes / 1024 / 1024;
  if (mib < 1) return `${Math.floor(bytes / 1024)} KiB`;
  return mib < 1024 ? `${mib.toFixed(1)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

/** The text cut to a number of columns, with an ellipsis when something is lost. */
export function fit(text: string, columns: number): string {
  const characters = [...text];
  if (characters.length <= columns) return text;
  return columns <= 0 ? "" : characters.slice(0, columns - 1).join("") + "…";
}

/** {@linkcode fit}, then filled up with spaces on the right. */
export function fitEnd(text: string, columns: number): string {
  const cut = fit(text, columns);
  return cut + " ".repeat(Math.max(0, columns - [...cut].length));
}

/** {@linkcode fit}, then filled up with spaces on the left. */
export function fitStart(text: string, columns: number): string {
  const cut = fit(text, columns);
  return " ".repeat(Math.max(0, columns - [...cut].length)) + cut;
}

/** An elapsed time of fixed resolution, which does not jump about while it runs: `0.4 s`, `12.3 s`, `3:07`, `1:02:03`. */
export function formatElapsed(ms: number): string {
  const tenths = Math.floor(Math.max(0, ms) / 100);
  if (tenths < 600) return `${(tenths / 10).toFixed(1)} s`;
  const seconds = Math.floor(tenths / 10);
  const pad = (value: number) => String(value).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${pad(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(seconds % 60)}`;
}
