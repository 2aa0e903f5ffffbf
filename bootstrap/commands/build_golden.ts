/**
 * `gateway build golden`: the golden state disk for any VMM, and, where the VMM has snapshots, the golden state of a
 * ready cluster for one size of machine.
 * It must not leave anything but those two.
 *
 * @module
 */
import { join } from "@std/path";
import type { Arch } from "../../vm/base/arch.ts";
import { instancePaths } from "../../vm/base/layout.ts";
import { type Artifact, ArtifactStore } from "../../vm/store/artifact.ts";
import { ensureArtifacts, type EnsureArtifactsOptions } from "../artifacts/ensure.ts";
import { chosenSource, ensurePayload, offeringDemo } from "../payload/choose.ts";
import { preparePayload } from "../payload/prepare.ts";
import { chooseVmm } from "../plan/choose_vmm.ts";
import { planFor } from "../plan/instance.ts";
import { hostFacts, resolveOptions } from "../plan/options.ts";
import { ensureGolden } from "../saved/golden.ts";
import type { GoldenNeeds } from "../saved/golden_build.ts";
import { goldenDiskRecipe } from "../saved/golden_disk.ts";
import { instanceKey } from "../saved/guest_source.ts";

/** The machine that golden state is made for; the defaults of `up` where nothing is said. */
export interface GoldenSize {
  readonly cpus?: number;
  readonly memoryMiB?: number;
  readonly stateMiB?: number;
  /** What its cluster runs. */
  readonly payload?: string;
  /** Its processor; this host's by default. */
  readonly arch?: Arch;
}

/**
 * Builds what is missing.
 *
 * @throws GatewayError as builds and `up` do, `usage` for a size that cannot be.
 */
export async function buildGoldenTarget(
  options: EnsureArtifactsOptions & { readonly size: GoldenSize },
): Promise<Pick<Artifact, "name" | "files">[]> {
  const { span, signal, size, store = new ArtifactStore(undefined, { repair: true }) } = options;
  const how = { span, signal, store, assumeYes: options.assumeYes };
  const request = { name: "golden", assumeYes: options.assumeYes, ...size };
  const asked = { ...request, clusterBinary: options.clusterBinary };
  // A size that cannot be fails before a registry is asked for anything.
  resolveOptions(asked, hostFacts());
  const source = await chosenSource(asked.payload, span);
  const { config } = resolveOptions({ ...asked, payload: source }, hostFacts());
  const payload = await ensurePayload(config.payload, how);
  const artifacts = await ensureArtifacts(options);
  const chosen = await chooseVmm(artifacts, options);
  const disk = await store.ensure(goldenDiskRecipe(artifacts, config), options);
  if (!chosen.vmm.supports.snapshot) return [disk];
  const preparing = preparePayload(payload, { ...options, config });
  const { digest } = await offeringDemo(config.payload, preparing);
  // The key does not depend on where an instance lies.
  const key = instanceKey(
    planFor(instancePaths("golden"), config, artifacts, chosen),
    config,
    chosen,
  );
  return [disk, await ready({ config, key, payloadDigest: digest, span, signal })];
}

async function ready(needs: GoldenNeeds): Promise<Pick<Artifact, "name" | "files">> {
  const { dir, state } = await ensureGolden(needs);
  const files = [state.devices, ...state.ram].map(({ name, sha256, sizeBytes }) =>
    [name, { path: join(dir, name), sha256, sizeBytes }] as const
  );
  return { name: "golden-state", files: Object.fromEntries(files) };
}
