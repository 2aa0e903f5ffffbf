/**
 * The commands that look at a host, an instance or an image and judge it: doctor, verify. They are described
 * here because cli.ts has no room for them, and get everything that prints, exits or catches signals from it.
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
    .addOption(kit.jsonOption())
    .action((flags: Flags) =>
      kit.finish(async (signal) => {
        const { capabilityText, verifyInstance } = await import("./verify.ts");
        const report = await verifyInstance(flags.name, signal);
        flags.json ? kit.json(report) : kit.out(capabilityText(report));
        return report.ok ? 0 : 1;
      })
    );
}
