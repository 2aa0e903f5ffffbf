/**
 * Writes one thing into a folder that is too small for it, and prints the error's code and what is left there.
 *
 * @module
 */
import { join } from "@std/path";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { shareFile } from "../../vm/instance/disk_chain.ts";
import { ensureStateDisk } from "../../vm/instance/state_disk.ts";

const what = Deno.args[0];
const small = Deno.args[1]!;
const large = Deno.args[2]!;
let code = "none";
try {
  if (what === "state disk") await ensureStateDisk(join(small, "state.img"), 16 * 1024);
  if (what === "shared file") await shareFile(large, join(small, "copy"));
  if (what === "record") await writeFileAtomic(join(small, "record"), await Deno.readFile(large));
} catch (error) {
  code = error instanceof GatewayError ? error.code : String(error);
}
const left = [...Deno.readDirSync(small)].map(({ name }) => name);
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify({ code, left })));
