/**
 * Figures of the libkrun driver, measured in the nested machine against a C program that makes the same calls.
 *
 * @module
 */
import { runOuter } from "../nested/outer.ts";
import type { Row } from "./row.ts";

/** Measures. */
export async function nestedRows(): Promise<Row[]> {
  const { told, console } = await runOuter("bench", 6 * 60_000);
  const rows = told.flatMap((record) => record.kind === "row" ? [record] : []);
  if (rows.length === 0) throw new Error(`the nested machine gave no figure\n${console}`);
  return rows.map(({ kind: _, ...row }) => row);
}
