/**
 * The commands that look at a host, an instance or an image and judge it: doctor, verify, provenance, keys. They are
 * described here because cli.ts has no room for them, and get everything that prints, exits or catches signals from it.
 * It must not do a command's work, and imports what does only inside an action.
 *
 * @module
 */
import type { Command, Option } from "commander";
import type { Span } from "../vm/event.ts";

/** What commander hands to these actions. */
interface Flags {
  readonly name: string;
  readonly json?: boolean;
  readonly [flag: string]: unknown;
}

/** What the command line lends. */
export interface CommandKit {
  /** A subcommand with --name and an example. */
  readonly command: (root: Command, usage: string, description: string, example: string) => Command;
  readonly jsonOption: () => Option;
  /** Runs an action under the user's signals and keeps its exit code. */
  readonly finish: (action: (signal: AbortSignal) => Promise<number>) => Promise<void>;
  /** Data for the user's next program. */
  readonly out: (text: string) => void;
  /** Words for people. */
  readonly err: (text: string) => void;
  readonly json: (value: unknown) => void;
  /** A span whose warnings reach the user. */
  readonly warningSpan: () => Promise<Span>;
}

/** Adds them all. */
export function addChecks(root: Command, kit: CommandKit): void {
  addDoctor(root, kit);
  addVerify(root, kit);
  addProvenance(root, kit);
  addKeys(root, kit);
}

function addDoctor(root: Command, kit: CommandKit): void {
  root.command("doctor").description("check this host, with a fix for each finding")
    .addOption(kit.jsonOption()).addHelpText("after", "\nExample:\n  gateway doctor\n")
    .action((flags: Flags) =>
      kit.finish(async (signal) => {
        const { doctor } = await import("./doctor.ts");
        const { doctorText } = await import("./views.ts");
        const checks = await doctor(await kit.warningSpan(), signal);
        flags.json ? kit.json(checks) : kit.out(doctorText(checks));
        return checks.some((check) => check.outcome === "fail") ? 1 : 0;
      })
    );
}

function addVerify(root: Command, kit: CommandKit): void {
  const description = "try in the guest what its kernel must be able to do";
  kit.command(root, "verify", description, "gateway verify --name dev")
    .option("--matrix", "instead: try every VMM, kernel, network and mode on this host")
    .option("--no-clusters", "with --matrix: only VMs without a cluster")
    .option("--debian-kernel <file>", "with --matrix: a Debian kernel instead of that in /boot")
    .option("-y, --yes", "with --matrix: as root, install missing host tools")
    .addOption(kit.jsonOption())
    .action((flags: Flags) =>
      kit.finish(async (signal) => {
        if (flags.matrix) return await verifyMatrix(flags, kit, signal);
        const { capabilityText, verifyInstance } = await import("./verify.ts");
        const report = await verifyInstance(flags.name, signal);
        flags.json ? kit.json(report) : kit.out(capabilityText(report));
        return report.ok ? 0 : 1;
      })
    );
}

async function verifyMatrix(flags: Flags, kit: CommandKit, signal: AbortSignal): Promise<number> {
  const { matrixText } = await import("./matrix.ts");
  const { runMatrix } = await import("./matrix_run.ts");
  const { report, path } = await runMatrix({
    span: await kit.warningSpan(),
    signal,
    assumeYes: flags.yes === true || Deno.env.get("GATEWAY_YES") === "1",
    clusters: flags.clusters !== false,
    debianKernel: flags.debianKernel as string | undefined,
    onRow: ({ vmm, kernel, net, mode, outcome }) => {
      if (outcome !== "not-run") kit.err(`${vmm} ${kernel} ${net} ${mode}: ${outcome}`);
    },
  });
  if (flags.json) kit.json(report);
  else kit.out(`${matrixText(report)}\nsaved as ${path}`);
  return report.ok ? 0 : 1;
}

function addProvenance(root: Command, kit: CommandKit): void {
  const description = "what an instance runs from: digests, origin, signatures";
  kit.command(root, "provenance", description, "gateway provenance --json")
    .addOption(kit.jsonOption())
    .action((flags: Flags) =>
      kit.finish(async (signal) => {
        const { instanceProvenance, provenanceText } = await import("./provenance.ts");
        const span = await kit.warningSpan();
        const report = await instanceProvenance(flags.name, { span, signal });
        flags.json ? kit.json(report) : kit.out(provenanceText(report));
        return report.intact ? 0 : 1;
      })
    );
}

function addKeys(root: Command, kit: CommandKit): void {
  const keys = root.command("keys").description(
    "make a signing key, sign, and choose whom to trust",
  )
    .addHelpText("after", "\nExample:\n  gateway keys make\n  gateway keys sign\n");
  const verb = (usage: string, description: string, example: string) =>
    keys.command(usage).description(description).addOption(kit.jsonOption())
      .addHelpText("after", `\nExample:\n  gateway keys ${example}\n`);
  const tell = (flags: Flags, value: unknown, text: string) =>
    flags.json ? kit.json(value) : kit.out(text);
  verb("make", "make an ed25519 key pair that signs here", "make")
    .action((flags: Flags) =>
      kit.finish(async () => {
        const { makeSigningKey } = await import("../vm/signing.ts");
        const { id, publicPath } = await makeSigningKey();
        tell(flags, { id, publicPath }, `key ${id}\npublic key ${publicPath}`);
        return 0;
      })
    );
  verb("trust <file>", "boot only what this public key has signed", "trust signing.pub")
    .action((file: string, flags: Flags) =>
      kit.finish(async () => {
        const { trustKey } = await import("../vm/signing.ts");
        const id = await trustKey(file);
        tell(flags, { id }, `trusted ${id}`);
        return 0;
      })
    );
  verb("distrust <id>", "no longer trust a key", "distrust 0123456789abcdef")
    .action((id: string, flags: Flags) =>
      kit.finish(async () => {
        const { distrustKey } = await import("../vm/signing.ts");
        await distrustKey(id);
        tell(flags, { id }, `no longer trusted ${id}`);
        return 0;
      })
    );
  verb("list", "the signing key and the trusted ones", "list")
    .action((flags: Flags) =>
      kit.finish(async () => {
        const { listKeys } = await import("../vm/signing.ts");
        const { keysText } = await import("./keys.ts");
        const list = await listKeys();
        tell(flags, list, keysText(list));
        return 0;
      })
    );
  verb("sign", "sign what a start boots from, after hashing it", "sign")
    .option("--cluster-binary <file>", "with this cluster binary instead of ours")
    .action((flags: Flags) =>
      kit.finish(async (signal) => {
        const { signAll } = await import("./keys.ts");
        const clusterBinary = flags.clusterBinary as string | undefined;
        const span = await kit.warningSpan();
        const signed = await signAll({ span, signal, clusterBinary });
        tell(flags, { signed }, `signed ${signed.join(", ")}`);
        return 0;
      })
    );
}
