/**
 * The commands that look at a host, an instance or an image and judge it: doctor, verify, provenance, keys.
 * It must not do a command's work, and imports what does only inside an action.
 *
 * @module
 */
import { tell } from "./io.ts";
import {
  type CliKit,
  group,
  named,
  type Parent,
  subcommand,
  warningSpan,
  withJson,
} from "./kit.ts";

/** Adds them all. */
export function addChecks(root: Parent, kit: CliKit): void {
  addDoctor(root, kit);
  addVerify(root, kit);
  addProvenance(root, kit);
  addKeys(root, kit);
}

function addDoctor(root: Parent, kit: CliKit): void {
  const description = "check this host, with a fix for each finding";
  const command = withJson(subcommand(root, "doctor", description, "gateway doctor"))
    .option("--report", "print one block to paste into a report");
  command.action((flags) =>
    kit.finish(async (signal) => {
      const io = kit.io(flags, signal);
      const { doctor, doctorText, reportText } = await import("../inspect/doctor.ts");
      const checks = await doctor(await warningSpan(io), signal);
      if (flags.report) {
        const { versionFacts, versionText } = await import("./version.ts");
        const version = versionText(await versionFacts());
        tell(io, checks, reportText(version, checks, Deno.env.get("HOME")));
      } else tell(io, checks, doctorText(checks));
      return checks.some((check) => check.outcome === "fail") ? 1 : 0;
    })
  );
}

function addVerify(root: Parent, kit: CliKit): void {
  const description = "try in the guest what its kernel must be able to do";
  withJson(named(root, "verify [instance]", description, "gateway verify dev"))
    .action((_, flags) =>
      kit.finish(async (signal) => {
        const { capabilityText, verifyInstance } = await import("../inspect/verify.ts");
        const report = await verifyInstance(flags.name, signal);
        tell(kit.io(flags, signal), report, capabilityText(report));
        return report.ok ? 0 : 1;
      })
    );
}

function addProvenance(root: Parent, kit: CliKit): void {
  const description = "what an instance runs from: digests, origin, signatures";
  withJson(named(root, "provenance [instance]", description, "gateway provenance --json"))
    .action((_, flags) =>
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

function addKeys(root: Parent, kit: CliKit): void {
  const keys = group(
    root,
    "keys",
    "make a signing key, sign, and choose whom to trust",
    "gateway keys make\ngateway keys sign",
  );
  const verb = <Usage extends string>(usage: Usage, description: string, example: string) =>
    withJson(subcommand(keys, usage, description, `gateway keys ${example}`));
  const signing = () => import("../../vm/store/signing.ts");
  verb("make", "make an ed25519 key pair that signs here", "make").action((flags) =>
    kit.finish(async (signal) => {
      const { id, publicPath } = await (await signing()).makeSigningKey();
      tell(kit.io(flags, signal), { id, publicPath }, `key ${id}\npublic key ${publicPath}`);
      return 0;
    })
  );
  const trusting = "boot only what this public key, or another trusted one, has signed";
  verb("trust <file>", trusting, "trust signing.pub").action((file, flags) =>
    kit.finish(async (signal) => {
      const id = await (await signing()).trustKey(file);
      tell(kit.io(flags, signal), { id }, `trusted ${id}`);
      return 0;
    })
  );
  verb("distrust <id>", "no longer trust a key", "distrust SHA256:Zk1…").action((id, flags) =>
    kit.finish(async (signal) => {
      await (await signing()).distrustKey(id);
      tell(kit.io(flags, signal), { id }, `no longer trusted ${id}`);
      return 0;
    })
  );
  verb("list", "the signing key and the trusted ones", "list").alias("ls").action((flags) =>
    kit.finish(async (signal) => {
      const list = await (await signing()).listKeys();
      const { keysText } = await import("../inspect/keys.ts");
      tell(kit.io(flags, signal), list, keysText(list));
      return 0;
    })
  );
  verb("sign", "sign what a start boots from, after hashing it", "sign")
    .option("--cluster-binary <file>", "with this cluster binary instead of ours")
    .action((flags) =>
      kit.finish(async (signal) => {
        const io = kit.io(flags, signal);
        const { signAll } = await import("../inspect/keys.ts");
        const { clusterBinary } = flags;
        const signed = await signAll({ span: await warningSpan(io), signal, clusterBinary });
        tell(io, { signed }, `signed ${signed.join(", ")}`);
        return 0;
      })
    );
}
