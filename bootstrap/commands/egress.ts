/**
 * The options of `up` that say what the guest may reach through this host.
 *
 * @module
 */
import type { Command } from "commander";

/** `--egress`, `--allow-net`; `up` has to be there already. */
export function addEgress(root: Command): void {
  root.commands.find((one) => one.name() === "up")!
    .option(
      "--egress <mode>",
      "what the guest reaches through this host: internet (public addresses, the default), all or none; remembered",
    )
    .option(
      "--allow-net <cidr[:port]>",
      "let the guest reach a network besides; repeatable, replaces the remembered list",
      (value: string, before: string[] | false) => [...(before || []), value],
      [],
    )
    .option("--no-allow-net", "close the networks that are remembered");
}
