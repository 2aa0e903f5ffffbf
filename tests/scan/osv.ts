/**
 * A client of OSV's API: which known vulnerabilities packages have.
 *
 * @module
 */
import * as v from "valibot";
import { describeError } from "../../vm/base/error.ts";
import type { Part } from "./parts.ts";

/** The public database. */
export const OSV_URL = "https://api.osv.dev";

/** The API takes this many at a time. */
const BATCH = 1000;
const TIMEOUT_MS = 60_000;
/** More pages for one batch than the database can have. */
const PAGES_MAX = 50;

/** The database gave no answer that says anything about the packages. */
export class NotScanned extends Error {}

const Answer = v.object({
  results: v.array(v.object({
    vulns: v.optional(v.array(v.object({ id: v.string() })), []),
    next_page_token: v.optional(v.string()),
  })),
});

/** A package with the ids of what is known about it. */
export type Finding = Part & { readonly ids: readonly string[] };

/** Those of the packages that something is known about. @throws NotScanned. */
export async function knownVulnerabilities(
  parts: readonly Part[],
  url: string = OSV_URL,
): Promise<Finding[]> {
  const found = new Map<Part, Set<string>>();
  for (let at = 0; at < parts.length; at += BATCH) {
    let asked: { part: Part; token?: string }[] = parts.slice(at, at + BATCH)
      .map((part) => ({ part }));
    for (let page = 0; asked.length > 0; page++) {
      if (page === PAGES_MAX) throw new NotScanned(`${url} did not come to an end`);
      const results = await ask(asked, url);
      asked.forEach(({ part }, index) => {
        for (const { id } of results[index]!.vulns) {
          found.set(part, (found.get(part) ?? new Set()).add(id));
        }
      });
      asked = asked.flatMap(({ part }, index) => {
        const token = results[index]!.next_page_token;
        return token ? [{ part, token }] : [];
      });
    }
  }
  return [...found].map(([part, ids]) => ({ ...part, ids: [...ids].sort() }));
}

async function ask(asked: readonly { part: Part; token?: string }[], url: string) {
  const queries = asked.map(({ part: { name, ecosystem, version }, token }) => ({
    package: { name, ecosystem },
    version,
    ...(token && { page_token: token }),
  }));
  try {
    const response = await fetch(`${url}/v1/querybatch`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ queries }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const { results } = v.parse(Answer, JSON.parse(text));
    if (results.length !== queries.length) throw new Error("the answer is not about all packages");
    return results;
  } catch (error) {
    const { cause } = error as Error;
    throw new NotScanned(`${url}: ${describeError(cause ?? error)}`);
  }
}
