/**
 * The shell script in an instance's folder that starts its VM by hand, as `gateway status --argv` prints it.
 * It must not start anything.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import type { GvproxyCommand } from "../../net/gvproxy.ts";
import { shellQuote } from "../../net/ssh.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { VmCommand } from "../../vm/machine/vmm.ts";

const quote = (word: string) => shellQuote([word]);

/** The script's text. The VM boots from its disk, also where the start resumed from saved memory. Pure. */
export function replayScript(
  spec: VmSpec,
  vm: VmCommand,
  gvproxy: GvproxyCommand,
): string {
  const { program, args, env, cwd } = vm;
  const config = join(dirname(gvproxy.apiSocket), "replay.json");
  const variables = Object.entries({ PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...env })
    .map(([name, value]) => `${name}=${value}`);
  const words = ["env", "-i", ...variables, program, ...args];
  return `#!/bin/sh
# Starts the VM of ${quote(spec.name)} by hand, from its disk. Stop the instance first.
# No port of this host is forwarded. The console: ${quote(spec.consoleLogPath)}
# To power it off: printf 'r1 poweroff\\n' | socat -t 60 - UNIX-CONNECT:${
    quote(spec.consolePorts[0]!.socketPath)
  }
set -eu
umask 077
mkdir -p ${quote(dirname(config))} ${quote(spec.runtimeDir)}
printf '%s\\n' ${quote(JSON.stringify({ ...gvproxy.config, exitWithParent: false }))} >${
    quote(config)
  }
${quote(gvproxy.program)} -config ${quote(config)} &
gvproxy=$!
trap 'kill $gvproxy' EXIT
until [ -S ${quote(gvproxy.apiSocket)} ]; do kill -0 $gvproxy; sleep 0.1; done
: >${quote(spec.consoleLogPath)}
${cwd === undefined ? "" : `cd ${quote(cwd)}\n`}${words.map(quote).join(" \\\n  ")}
`;
}
