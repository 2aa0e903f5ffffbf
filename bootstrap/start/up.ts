/**
 * The straight line from options to READY and back: each step is one awaited call under its span, values only move
 * to the right, and what was acquired is disposed in reverse.
 * It must not hold a step's detail (the other files of this room do), print, or exit.
 *
 * @module
 */
import { checkPortsFree } from "../../net/forward.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { DiskChain } from "../../vm/instance/disk_chain.ts";
import { type InstanceConfig, LockedInstance } from "../../vm/instance/instance.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { startKubeApi } from "../cluster/access.ts";
import { loadPayload } from "../payload/choose.ts";
import { serviceForward } from "../payload/service.ts";
import { chooseVmm } from "../plan/choose_vmm.ts";
import { planFor } from "../plan/instance.ts";
import type { UpOptions } from "../plan/options.ts";
import { type RunEnd, stay } from "../run/supervisor.ts";
import { findGoldenDisk } from "../saved/golden_disk.ts";
import { prepareGuest } from "../saved/guest_source.ts";
import type { UpContext } from "./context.ts";
import { exposePorts, guestUp } from "./guest_up.ts";
import { startGuest } from "./guest_vm.ts";
import { attachVm, keepEvents, networkFor, newRun } from "./machine.ts";
import { adoptMaterial, ensureKeys, ensureParts, readMaterial, writeUpPayload } from "./parts.ts";
import { announceReady, keepForInspection, reachReady } from "./ready.ts";

/**
 * Boots an instance, stays until it is told to stop, and cleans up. "again": it was put to sleep and is to be woken.
 *
 * @throws GatewayError of the step that failed; `interrupted` when the signal came before READY.
 */
export async function up(options: UpOptions, ctx: UpContext): Promise<RunEnd> {
  const { config, cold, keep = false } = options;
  const { log, signal } = ctx;
  const span = log.span("up", { instance: config.name });
  let end: RunEnd;
  try {
    const payload = await loadPayload(config.payload);
    const forward = serviceForward(config, payload);
    if (options.payloadWhy) span.log(options.payloadWhy);
    await using stack = new AsyncDisposableStack();
    const instance = stack.use(
      await span.run("open instance", () => openInstance(config, signal)),
    );
    const { paths } = instance;
    keepEvents(stack, paths, ctx);
    await span.run("check host", () => checkPortsFree(config.ports));
    await instance.saveRun(newRun(config, paths));
    const { artifacts, prepared } = await ensureParts(span, options, payload, signal);
    const chosen = await span.run(
      "choose vmm",
      (s) => chooseVmm(artifacts, { ...options, span: s, signal }),
    );
    await instance.saveConfig(config);
    const [pki, ssh] = await span.run(
      "pki",
      (s) => ensureKeys(paths, forward, { span: s, signal }),
    );
    const own = await readMaterial(paths, payload, pki);
    await span.run("payload", (s) => writeUpPayload(paths, config, prepared, own, ssh, s));
    const plan = (disk: DiskChain) => planFor(paths, config, artifacts, chosen, disk);
    const goldenDisk = () =>
      findGoldenDisk(artifacts, config, new ArtifactStore(), { span, signal });
    const how = { cold, keep, payloadDigest: prepared.digest, goldenDisk, span, signal };
    const { source, key } = await prepareGuest(paths, config, chosen, plan, how);
    const { slot, spec } = source;
    const material = await adoptMaterial(paths, slot, own);
    if (material !== own) await writeUpPayload(paths, config, prepared, material, ssh, span);
    const gvproxy = await networkFor(stack, paths, config, artifacts, ctx, span);
    const vm = await span.run("start vm", (s) => startGuest(stack, source, paths, chosen, ctx, s));
    const { control, guarded } = await span.run(
      "attach",
      (s) => attachVm(stack, instance, spec, { gvproxy, vm, chosen, artifacts }, ctx, s),
    );
    await span.run("guest up", () => guestUp(control, slot, guarded, prepared));
    await vm.keep();
    const ports = await span.run(
      "expose ports",
      () => exposePorts(gvproxy.client, paths, config, slot),
    );
    await instance.saveRun(ports);
    const access = { paths, slot, ports, gvproxy: gvproxy.client };
    const kubeApi = startKubeApi(stack, span, config, access, guarded);
    const guest = { ...access, config, prepared, material, forward, guarded, keep };
    const reached = await reachReady(span, guest);
    const now = reached instanceof GatewayError
      ? await keepForInspection(instance, config, ctx, reached)
      : await announceReady(span, stack, instance, guest, kubeApi, ctx, reached.token);
    const running = { paths, config: now, spec, vm, control, key, ports, gvproxy, span };
    end = await stay(stack, running, guarded, signal);
    await instance.saveRun({ phase: "stopping" });
  } catch (error) {
    span.end(error);
    throw error;
  }
  span.end();
  return end;
}

/**
 * Takes the lock of the instance that the settings were resolved for.
 *
 * @throws GatewayError `instance-running` when it runs, or when another command made one of its name meanwhile.
 */
export async function openInstance(
  config: InstanceConfig,
  signal: AbortSignal,
): Promise<LockedInstance> {
  const instance = await LockedInstance.open(config.name, signal);
  try {
    const known = await instance.config();
    if (known === undefined || known.createdAt === config.createdAt) return instance;
    throw new GatewayError({
      code: "instance-running",
      what: `Cannot start the instance "${config.name}"`,
      why: "another command made an instance of that name meanwhile",
      fix: "run the command again to start that one, or choose another --name",
    });
  } catch (error) {
    await instance[Symbol.asyncDispose]();
    throw error;
  }
}
