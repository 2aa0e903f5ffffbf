/**
 * This room is the line from options to READY: one file for each of the five stations. What an instance does after
 * READY is in the room run, and saved states are in saved. Read start_plan.ts, parts.ts, source.ts, machine.ts and
 * ready.ts next, in this order.
 *
 * A start, from options to the end of the run: each station gives one value to the next, and what was acquired is disposed
 * in reverse.
 * It must not hold a station's detail (the other files of this room do), print, or exit.
 *
 * @module
 */
import { checkPortsFree } from "../../net/forward.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { type InstanceConfig, LockedInstance } from "../../vm/instance/instance.ts";
import type { UpOptions } from "../plan/options.ts";
import { type RunEnd, stay } from "../run/supervisor.ts";
import type { UpContext } from "./context.ts";
import { boot, keepEvents, newRun } from "./machine.ts";
import { prepare } from "./parts.ts";
import { reachReady } from "./ready.ts";
import { chooseSource } from "./source.ts";
import { makeStartPlan } from "./start_plan.ts";

/**
 * Boots an instance, stays until it is told to stop, and cleans up. "again": it was put to sleep and is to be woken.
 *
 * @throws GatewayError of the step that failed; `interrupted` when the signal came before READY.
 */
export async function up(options: UpOptions, ctx: UpContext): Promise<RunEnd> {
  const span = ctx.log.span("up", { instance: options.config.name });
  try {
    const end = await start(options, ctx, span);
    span.end();
    return end;
  } catch (error) {
    span.end(error);
    throw error;
  }
}

async function start(options: UpOptions, ctx: UpContext, span: Span): Promise<RunEnd> {
  const { signal } = ctx;
  const plan = await makeStartPlan(options, span);
  const { config } = options;
  await using instance = await span.run("open instance", () => openInstance(config, signal));
  const { paths } = instance;
  using _events = keepEvents(paths, ctx);
  await span.run("check host", () => checkPortsFree(config.ports));
  await instance.saveRun(newRun(config, paths));
  const parts = await prepare(plan, instance, span, signal);
  const source = await chooseSource(parts, span, signal);
  await using machine = await boot(parts, source, ctx, span);
  await using ready = await reachReady(parts, source, machine, ctx, span);
  const { vm, control, gvproxy, guarded } = machine;
  const { spec, key } = source;
  const { config: now, ports } = ready;
  const running = { paths, config: now, spec, key, vm, control, gvproxy, ports, span };
  const end = await stay(running, guarded, signal);
  await instance.saveRun({ phase: "stopping" });
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
