/**
 * Watches the certificates of an instance that runs for so long that they end: its own, which are renewed at a start, and
 * its cluster's. It renews nothing itself: the supervisor suspends and resumes the instance, and that start renews them.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { join } from "@std/path";
import type { Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { repeat } from "../../vm/base/wait.ts";
import { certificatesNow, endsSoon } from "../cluster/slot_certificates.ts";
import { CA_RENEW_MS, LEAF_RENEW_MS } from "../credentials/pki.ts";

const LOOK_MS = 60 * 60_000;

/** Whose certificates have to be renewed. */
export type DueCertificates = "the instance's" | "the cluster's";

/** Looks once an hour, and whenever look() is called. */
export class CertificateWatch {
  #given: ReadonlySet<DueCertificates> | undefined;
  #reported = false;

  constructor(
    private readonly paths: Pick<InstancePaths, "dir" | "pkiDir">,
    private readonly span: Pick<Span, "log">,
    private readonly signal: AbortSignal,
    /** Called once, when some have to be renewed that could wait when the watch began. */
    private readonly onDue: () => void,
    private readonly nowMs: () => number = Date.now,
  ) {}

  /** Looks until the signal aborts. Never rejects. */
  async watch(): Promise<void> {
    await this.look();
    await repeat(() => this.look(), LOOK_MS, this.signal);
  }

  /** Looks now. What this run's own start could not renew, the next one cannot either; it is left alone. */
  async look(): Promise<void> {
    if (this.#reported || this.signal.aborted) return;
    const due = await dueCertificates(this.paths, this.nowMs());
    const given = this.#given ??= due;
    this.#given = due.intersection(given);
    const found = [...due.difference(given)];
    if (found.length === 0 || this.#reported || this.signal.aborted) return;
    this.#reported = true;
    this.span.log(`${found.join(" and ")} certificates end soon and are renewed`);
    this.onDue();
  }
}

/** Which certificates the next start would renew by this time. */
export async function dueCertificates(
  paths: Pick<InstancePaths, "dir" | "pkiDir">,
  nowMs: number,
): Promise<Set<DueCertificates>> {
  const due = new Set<DueCertificates>();
  for (const name of ["ca", "server", "client"]) {
    const end = await endOf(join(paths.pkiDir, `${name}.crt`));
    const renewMs = name === "ca" ? CA_RENEW_MS : LEAF_RENEW_MS;
    if (end !== undefined && end - nowMs < renewMs) due.add("the instance's");
  }
  const { clusterEnds } = await certificatesNow(paths);
  if (clusterEnds !== null && endsSoon(clusterEnds, nowMs)) due.add("the cluster's");
  return due;
}

/** When a certificate ends, in milliseconds; undefined for one that cannot be read, which is the next start's matter. */
async function endOf(path: string): Promise<number | undefined> {
  try {
    return new X509Certificate(await Deno.readTextFile(path)).validToDate.getTime();
  } catch {
    return undefined;
  }
}
