/**
 * The command `deploy`: its options, and what is told of its outcome.
 * It must not print by itself, and loads what does the work only when it runs.
 *
 * @module
 */
import type { DeployOutcome, DeployRequest } from "../deploy/deploy.ts";
import type { DeployPayload } from "../deploy/payload.ts";
import type { RemoveReport } from "../deploy/remove.ts";
import type { PrepareOptions } from "../payload/prepare.ts";
import type { CommandIo } from "./io.ts";
import { type CliKit, type Parent, subcommand, withJson } from "./kit.ts";

const DEFAULT_TIMEOUT_SECONDS = 300;
const MAX_TIMEOUT_SECONDS = 86_400;

/** Adds it. */
export function addDeploy(root: Parent, kit: CliKit): void {
  deployCommand(root).action((flags) => kit.finish((signal) => runDeploy(kit.io(flags, signal))));
}

type DeployFlags = Readonly<ReturnType<ReturnType<typeof deployCommand>["opts"]>>;

function deployCommand(root: Parent) {
  const command = subcommand(
    root,
    "deploy",
    "the payload and its certificates into a cluster you have",
    "gateway deploy --context prod --diff\n" +
      "gateway deploy --context prod --address gw.example:443",
  )
    .requiredOption("--context <context>", "which context of the kubeconfig")
    .option("--kubeconfig <file>", "instead of KUBECONFIG or ~/.kube/config")
    .option(
      "--payload <name|dir>",
      "what is deployed; as for a new instance, or that of the --name",
    )
    .option("--name <name>", "with the certificates of this instance instead of new ones")
    .option("--address <host[:port]>", "where clients reach the service, if not at a node")
    .option("--image-prefix <place>", "registry and path that have the images built here")
    .option("--dry-run", "check all of it with the cluster, and change nothing")
    .option("--diff", "as --dry-run, and show what would change")
    .option("--force-conflicts", "take over fields that another manager owns")
    .option("--wait", "wait until all of it is ready (the default)")
    .option("--no-wait", "return when it is applied")
    .option("--timeout <seconds>", "bound of each wait", String(DEFAULT_TIMEOUT_SECONDS))
    .option("--remove", "remove what was deployed");
  return withJson(command);
}

async function runDeploy(io: CommandIo<DeployFlags>): Promise<number> {
  const { flags, signal } = io;
  const [{ EventLog }, { attachProgress }] = await Promise.all([
    import("../../vm/base/event.ts"),
    import("../view/progress_view.ts"),
  ]);
  const log = new EventLog();
  const started = performance.now();
  const view = attachProgress(log, io);
  const span = log.span(flags.remove ? "remove" : "deploy");
  const told = { span, signal };
  try {
    const request = await deployRequest(flags, { ...told, assumeYes: false });
    if (flags.remove) {
      const { removeDeployment } = await import("../deploy/remove.ts");
      const report = await removeDeployment(request, told);
      span.end();
      view[Symbol.dispose]();
      flags.json ? io.json(report) : io.out(removeText(report));
      return 0;
    }
    const { deploy } = await import("../deploy/deploy.ts");
    const outcome = await deploy(request, told);
    span.end();
    view[Symbol.dispose]();
    await tell(io, outcome, performance.now() - started);
    return 0;
  } catch (error) {
    span.end(error);
    throw error;
  } finally {
    view[Symbol.dispose]();
  }
}

async function deployRequest(
  flags: DeployFlags,
  options: PrepareOptions,
): Promise<DeployRequest> {
  const [{ parseAddress }, { openTarget }] = await Promise.all([
    import("../deploy/address.ts"),
    import("../deploy/target.ts"),
  ]);
  const { address } = flags;
  await checkTogether(flags);
  const request = {
    context: flags.context,
    kubeconfig: flags.kubeconfig,
    instance: flags.name,
    address: address === undefined ? undefined : parseAddress(address),
    imagePrefix: await imagePrefix(flags.imagePrefix),
    dryRun: flags.dryRun === true || flags.diff === true,
    forceConflicts: flags.forceConflicts === true,
    wait: flags.wait !== false,
    timeoutMs: await seconds(flags.timeout) * 1000,
  };
  // A context that is not there fails before a registry is asked for anything.
  (await openTarget(request))[Symbol.dispose]();
  return { ...request, payload: await payloadOf(flags, options) };
}

/** What was named; else what the instance runs whose certificates are taken; else what a new instance would run. */
async function payloadOf(
  { payload, name }: DeployFlags,
  options: PrepareOptions,
): Promise<DeployPayload> {
  const [{ deployPayload }, { chosenSource }] = await Promise.all([
    import("../deploy/payload.ts"),
    import("../payload/choose.ts"),
  ]);
  if (payload === undefined && name !== undefined) {
    const { requireInstance } = await import("../../vm/instance/instance.ts");
    return await deployPayload((await requireInstance(name)).config.payload, options);
  }
  const source = await chosenSource(payload, options.span);
  return await deployPayload(source, options);
}

async function checkTogether(flags: DeployFlags): Promise<void> {
  if (!flags.remove || !flags.diff) return;
  const { usageError } = await import("../../vm/base/error.ts");
  throw usageError(
    "Cannot use --diff with --remove",
    "a removal changes no object",
    "pass --remove --dry-run to see what would be removed",
  );
}

async function seconds(text: string): Promise<number> {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= MAX_TIMEOUT_SECONDS) return value;
  const { usageError } = await import("../../vm/base/error.ts");
  throw usageError(
    `Cannot use --timeout "${text}"`,
    `it is not a number of seconds from 1 to ${MAX_TIMEOUT_SECONDS}`,
    `pass --timeout ${DEFAULT_TIMEOUT_SECONDS}`,
  );
}

async function imagePrefix(text: string | undefined): Promise<string | undefined> {
  const form = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?(\/[a-z0-9]+([._-]+[a-z0-9]+)*)*\/?$/;
  if (text === undefined || form.test(text)) return text;
  const { usageError } = await import("../../vm/base/error.ts");
  throw usageError(
    `Cannot use --image-prefix "${text}"`,
    "it is not REGISTRY[:PORT][/PATH] in lower case",
    "write it as registry.example:5000/gateway",
  );
}

async function tell(
  io: CommandIo<DeployFlags>,
  outcome: DeployOutcome,
  elapsedMs: number,
): Promise<void> {
  const { report } = outcome;
  const { deployText, diffText } = await import("../deploy/text.ts");
  const diff = io.flags.diff ? diffText(outcome) : undefined;
  if (io.flags.json) io.json(diff === undefined ? report : { ...report, diff });
  else io.out(diff ?? deployText(report, elapsedMs));
}

function removeText(
  { removed, dryRun, namespaceRemoved, namespace, payload }: RemoveReport,
): string {
  const objects = `${removed.length} ${removed.length === 1 ? "object" : "objects"}`;
  if (dryRun) {
    const lines = removed.map((id) =>
      `would remove ${id.kind} ${id.namespace ? `${id.namespace}/` : ""}${id.name}`
    );
    return [...lines, `${objects} would be removed`].join("\n");
  }
  if (removed.length === 0 && !namespaceRemoved) {
    return `Nothing of "${payload}" is left in the namespace "${namespace}".`;
  }
  return `Removed ${objects}${namespaceRemoved ? ` and the namespace "${namespace}"` : ""}.`;
}
