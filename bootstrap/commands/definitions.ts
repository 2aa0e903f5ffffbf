/**
 * The commands whose options another file reads: their definitions, and the types of the options' values.
 * It must not hold an action.
 *
 * @module
 */
import { collect, type Parent, subcommand, whole, withJson } from "./kit.ts";

/** Values of up's options, as the user gave them. */
export type UpFlags = Readonly<ReturnType<ReturnType<typeof upCommand>["opts"]>>;

/** `up`, which is also what runs when no command is named. */
export function upCommand(root: Parent) {
  return root.command("up [args...]", { isDefault: true })
    .description("boot an instance and stay until Ctrl-C or `gateway down` (the default command)")
    .option("--name <name>", "which instance", "default")
    .option("--exec <program>", "no cluster: run this program in a fresh VM and exit with its code")
    .option(
      "-p, --port <[addr:]host:guest>",
      "forward a port; repeatable, replaces the defaults",
      collect,
    )
    .option("--net <mode>", "gvproxy, tsi or none")
    .option("--vmm <name>", "auto, qemu or libkrun")
    .option(
      "--arch <name>",
      "the guest's processor, amd64 or arm64; another than the host's is emulated",
    )
    .option("--libkrun <file>", "the libkrun to use instead of the one that is found")
    .option("--cpus <n>", "virtual CPUs", whole)
    .option("--memory <MiB>", "guest memory", whole)
    .option("--disk <MiB>", "size of the state disk", whole)
    .option("--payload <name|folder>", "what runs in the cluster")
    .option("--keep", "leave the VM running when its payload does not answer")
    .option("--no-kube-api", "neither forward the cluster's API nor write a kubeconfig")
    .option("--cluster-binary <file>", "a k3s-compatible binary to use instead of ours")
    .option("--cold", "boot from the disk instead of a saved state")
    .option("-d, --detach", "return when it is READY; it goes on in the background")
    .option("-y, --yes", "as root, install missing host tools without asking")
    .option("--json", "print JSON for programs")
    .option(
      "--host-service <host[:guest]>",
      "open a port of this host's loopback to the guest; repeatable, remembered",
      collect,
    )
    .option("--no-host-service", "close the ones that are remembered")
    .option(
      "--egress <mode>",
      "what the guest reaches through this host: internet (public addresses, the default), all or none; remembered",
    )
    .option(
      "--allow-net <cidr[:port]>",
      "let the guest reach a network besides; repeatable, replaces the remembered list",
      collect,
    )
    .option("--no-allow-net", "close the networks that are remembered")
    .option("--host-proxy", "the cluster's pulls go through this host's proxy")
    .option("--no-host-proxy", "no longer")
    .option("--host-ca <file>", "the cluster's pulls trust these authorities too")
    .option("--no-host-ca", "no longer")
    .addHelpText(
      "after",
      "\nExample:\n  gateway up --name dev --port 30052:30051 --memory 4096 --detach\n" +
        "  echo hi | gateway --exec /bin/cat\n",
    );
}

/** Values of build's options, as the user gave them. */
export type BuildFlags = Readonly<ReturnType<ReturnType<typeof buildCommand>["opts"]>>;

/** `build`. */
export function buildCommand(root: Parent) {
  const command = root.command("build [target] [payload]")
    .description(
      "build what is missing: kernel, root, cluster, images, golden, payload, libkrun or all",
    )
    .option("--payload <name|folder>", "golden: of a cluster that runs this")
    .option("--cpus <n>", "golden: of this many virtual CPUs", whole)
    .option("--memory <MiB>", "golden: of this guest memory", whole)
    .option("--disk <MiB>", "golden: of this state disk", whole)
    .option("--arch <name>", "for guests of this processor, amd64 or arm64")
    .option("--refresh", "root: with the Debian packages of today")
    .option("-y, --yes", "as root, install missing host tools without asking")
    .option("--cluster-binary <file>", "a k3s-compatible binary to use instead of ours")
    .addHelpText(
      "after",
      "\nExample:\n  gateway build all --yes\n  gateway build payload ./hello\n",
    );
  return withJson(command);
}

/** Values of fork's options, as the user gave them. */
export type ForkFlags = Readonly<ReturnType<ReturnType<typeof forkCommand>["opts"]>>;

/** `fork`. */
export function forkCommand(root: Parent) {
  const command = subcommand(
    root,
    "fork <source> <names...>",
    "running clones of a running instance, with ports and certificates of their own",
    "gateway fork default try-1 try-2",
  ).option("-p, --port <[addr:]host:guest>", "of a single clone; repeatable", collect);
  return withJson(command).option(
    "--host-service <host[:guest]>",
    "open a port of this host's loopback to the clones; repeatable",
    collect,
  );
}
