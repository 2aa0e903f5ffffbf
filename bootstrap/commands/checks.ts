/**
 * The commands that look at a host, an instance or an image and judge it: doctor, verify, provenance, keys.
 * It must not do a command's work, and imports what does only inside an action.
 *
 * @module
 */
import type { Command } from "commander";
import type { CliKit } from "./instances.ts";
import type { CommandIo } from "./io.ts";

type Flags = CommandIo["flags"] & { readonly name: string };

/** Adds them all. */
export function addChecks(root: Command, kit: CliKit): void {
  addDoctor(root, kit);
  addVerify(root, kit);
  addProvenance(root, kit);
  addKeys(root, kit);
}

/** A span whose warnings reach the user. */
const warningSpan = async ({ err }: CommandIo) =>
  (await import("../view/progress_view.ts")).warningSpan(err);

/** The value for programs, or the text for people. */
const tell = ({ flags, json, out }: CommandIo, value: unknown, text: string) =>
  flags.json ? json(value) : out(text);

function addDoctor(root: Command, kit: CliKit): void {
  kit.withJson(root.command("doctor").description("check this host, with a fix for each finding"))
    .addHelpText("after", "\nExample:\n  gateway doctor\n")
    .action((flags: Flags) =>
      kit.finish(async (signal) => {
        const io = kit.io(flags, signal);
        const { doctor } = await import("../inspect/doctor.ts");
        const { doctorText } = await import("../inspect/doctor.ts");
        const checks = await doctor(await warningSpan(io), signal);
        tell(io, checks, doctorText(checks));
        return checks.some((check) => check.outcome === "fail") ? 1 : 0;
      })
    );
}

function addVerify(root: Command, kit: CliKit): void {
  const description = "try in the guest what its kernel must be able to do";
  kit.withJson(kit.command(root, "verify [instance]", description, "gateway verify dev"))
    .option("--matrix", "instead: try every VMM, kernel, network and mode on this host")
    .option("--no-clusters", "with --matrix: only VMs without a cluster")
    .option("--debian-kernel <file>", "with --matrix: a Debian kernel instead of that in /boot")
    .option("-y, --yes", "with --matrix: as root, install missing host tools")
    .action((_instance: string | undefined, flags: Flags) =>
      kit.finish(async (signal) => {
        const io = kit.io(flags, signal);
        if (flags.matrix) return await verifyMatrix(io);
        const { capabilityText, verifyInstance } = await import("../inspect/verify.ts");
        const report = await verifyInstance(flags.name, signal);
        tell(io, report, capabilityText(report));
        return report.ok ? 0 : 1;
      })
    );
}

async function verifyMatrix(io: CommandIo): Promise<number> {
  const { flags, signal } = io;
  const { matrixText } = await import("../inspect/matrix.ts");
  const { runMatrix } = await import("../inspect/matrix_run.ts");
  const { report, path } = await runMatrix({
    span: await warningSpan(io),
    signal,
    assumeYes: flags.yes === true || Deno.env.get("GATEWAY_YES") === "1",
    clusters: flags.clusters !== false,
    debianKernel: flags.debianKernel as string | undefined,
    onRow: ({ vmm, kernel, net, mode, outcome }) => {
      if (outcome !== "not-run") io.err(`${vmm} ${kernel} ${net} ${mode}: ${outcome}`);
    },
  });
  tell(io, report, `${matrixText(report)}\nsaved as ${path}`);
  return report.ok ? 0 : 1;
}

function addProvenance(root: Command, kit: CliKit): void {
  const description = "what an instance runs from: digests, origin, signatures";
  kit.withJson(kit.command(root, "provenance [instance]", description, "gateway provenance --json"))
    .action((_instance: string | undefined, flags: Flags) =>
      kit.finish(async (signal) => {
        const io = kit.io(flags, signal);
        const { instanceProvenance, provenanceText } = await import("../inspect/provenance.ts");
        const span = await warningSpan(io);
        const report = await instanceProvenance(flags.name, { span, signal });
        tell(io, report, provenanceText(report));
        return report.intact ? 0 : 1;
      })
    );
}

/** A verb of `keys`: what it is called, and what it does with its argument, if it has one. */
interface KeyVerb {
  readonly usage: string;
  readonly description: string;
  readonly example: string;
  readonly run: (io: CommandIo, argument: string) => Promise<void>;
}

function addKeys(root: Command, kit: CliKit): void {
  const keys = root.command("keys")
    .description("make a signing key, sign, and choose whom to trust")
    .addHelpText("after", "\nExample:\n  gateway keys make\n  gateway keys sign\n");
  for (const { usage, description, example, run } of KEY_VERBS) {
    const verb = kit.withJson(keys.command(usage).description(description))
      .addHelpText("after", `\nExample:\n  gateway keys ${example}\n`);
    if (usage === "list") verb.alias("ls");
    if (usage === "sign") {
      verb.option("--cluster-binary <file>", "with this cluster binary instead of ours");
    }
    verb.action((...params: unknown[]) =>
      kit.finish(async (signal) => {
        // commander hands out the argument, if there is one, the flags and the command.
        const flags = params.at(-2) as Flags;
        await run(kit.io(flags, signal), params.length > 2 ? params[0] as string : "");
        return 0;
      })
    );
  }
}

const KEY_VERBS: readonly KeyVerb[] = [
  {
    usage: "make",
    description: "make an ed25519 key pair that signs here",
    example: "make",
    run: async (io) => {
      const { makeSigningKey } = await import("../../vm/store/signing.ts");
      const { id, publicPath } = await makeSigningKey();
      tell(io, { id, publicPath }, `key ${id}\npublic key ${publicPath}`);
    },
  },
  {
    usage: "trust <file>",
    description: "boot only what this public key, or another trusted one, has signed",
    example: "trust signing.pub",
    run: async (io, file) => {
      const { trustKey } = await import("../../vm/store/signing.ts");
      const id = await trustKey(file);
      tell(io, { id }, `trusted ${id}`);
    },
  },
  {
    usage: "distrust <id>",
    description: "no longer trust a key",
    example: "distrust SHA256:Zk1…",
    run: async (io, id) => {
      const { distrustKey } = await import("../../vm/store/signing.ts");
      await distrustKey(id);
      tell(io, { id }, `no longer trusted ${id}`);
    },
  },
  {
    usage: "list",
    description: "the signing key and the trusted ones",
    example: "list",
    run: async (io) => {
      const { listKeys } = await import("../../vm/store/signing.ts");
      const { keysText } = await import("../inspect/keys.ts");
      const list = await listKeys();
      tell(io, list, keysText(list));
    },
  },
  {
    usage: "sign",
    description: "sign what a start boots from, after hashing it",
    example: "sign",
    run: async (io) => {
      const { signAll } = await import("../inspect/keys.ts");
      const clusterBinary = io.flags.clusterBinary as string | undefined;
      const span = await warningSpan(io);
      const signed = await signAll({ span, signal: io.signal, clusterBinary });
      tell(io, { signed }, `signed ${signed.join(", ")}`);
    },
  },
];
