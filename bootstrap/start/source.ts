/**
 * The third station of a start: the one plan of its machine, and where the guest of it comes from.
 *
 * @module
 */
import type { Span } from "../../vm/base/event.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import type { SecretMaterial } from "../payload/secrets.ts";
import { planFor } from "../plan/instance.ts";
import { findGoldenDisk } from "../saved/golden_disk.ts";
import { type GuestSource, prepareGuest } from "../saved/guest_source.ts";
import { type Parts, writeGuestPayload } from "./parts.ts";

/** What the VM of a start is made of. */
export interface Source extends GuestSource {
  /** What the payload's Secrets are filled with. */
  readonly material: SecretMaterial;
}

/**
 * Plans the VM, finds what its guest comes from, and writes the payload disk.
 *
 * @throws GatewayError as prepareGuest() and writeGuestPayload().
 */
export async function chooseSource(
  parts: Parts,
  span: Span,
  signal: AbortSignal,
): Promise<Source> {
  const { plan: { options }, instance: { paths }, artifacts, prepared, chosen } = parts;
  const { config, cold, keep = false } = options;
  const planned = planFor(paths, config, artifacts, chosen);
  const guest = await prepareGuest(paths, config, chosen, planned, {
    ...{ cold, keep, span, signal },
    payloadDigest: prepared.digest,
    goldenDisk: () => findGoldenDisk(artifacts, config, new ArtifactStore(), { span, signal }),
  });
  const material = await span.run("payload", () => writeGuestPayload(parts, guest.slot));
  return { ...guest, material };
}
