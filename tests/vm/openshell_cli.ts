/**
 * OpenShell's client as a user calls it, with the files that an instance wrote for it.
 * It must not start or stop an instance.
 *
 * @module
 */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { run, type RunResult } from "../../vm/base/process.ts";
import { openshellClient } from "../fakes/openshell/programs.ts";
import type { TestHome } from "./harness.ts";

/** The first start of a sandbox takes minutes where processors are emulated. */
const CALL_TIMEOUT_MS = 16 * 60_000;

/** The client of one home. */
export class OpenshellCli {
  private constructor(private readonly program: string, private readonly config: string) {}

  static async of(home: TestHome): Promise<OpenshellCli> {
    return new OpenshellCli(await openshellClient(), join(home.home, "config"));
  }

  /** Runs `openshell ARGS…` to its end, with no option and no variable that would name a gateway. */
  async call(...args: string[]): Promise<RunResult> {
    return await run(this.program, {
      args,
      env: { XDG_CONFIG_HOME: this.config, OPENSHELL_GATEWAY: "" },
      check: false,
      timeoutMs: CALL_TIMEOUT_MS,
    });
  }

  /** Runs `openshell ARGS…`, insists on exit code 0, and gives what it prints. */
  async ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.call(...args);
    assertEquals(code, 0, `openshell ${args.join(" ")}:\n${stderr}${stdout}`);
    return stdout;
  }

  /** Runs `openshell sandbox exec --name NAME -- sh -c SCRIPT` and gives what it prints. */
  async sh(name: string, script: string): Promise<string> {
    return await this.ok("sandbox", "exec", "--name", name, "--", "sh", "-c", script);
  }

  /** Insists that the gateway lets in its user, and nobody by the client's certificate alone. */
  async knowsItsUser(): Promise<void> {
    assertMatch(await this.ok("status"), /Status: Connected\n[^]*Authentication: Authenticated/);
    await using alone = await this.withKeyAlone();
    assertMatch(
      await alone.ok("status"),
      /Status: Connected\n[^]*Authentication: Failed \(missing authorization header\)/,
    );
  }

  /** The same client with the active gateway's certificates and nothing else of its login, in a folder to be removed. */
  async withKeyAlone(): Promise<OpenshellCli & AsyncDisposable> {
    const from = join(this.config, "openshell");
    const active = (await Deno.readTextFile(join(from, "active_gateway"))).trim();
    const config = await Deno.makeTempDir({ prefix: "gw-key-alone-" });
    const to = join(config, "openshell/gateways/only");
    await Deno.mkdir(join(to, "mtls"), { recursive: true });
    const files = join(from, "gateways", active);
    const { gateway_endpoint } = JSON.parse(await Deno.readTextFile(join(files, "metadata.json")));
    await Deno.writeTextFile(
      join(to, "metadata.json"),
      JSON.stringify({ name: "only", gateway_endpoint, auth_mode: "mtls" }),
    );
    for (const name of ["ca.crt", "tls.crt", "tls.key"]) {
      await Deno.copyFile(join(files, "mtls", name), join(to, "mtls", name));
    }
    await Deno.writeTextFile(join(config, "openshell/active_gateway"), "only");
    return Object.assign(new OpenshellCli(this.program, config), {
      [Symbol.asyncDispose]: () => Deno.remove(config, { recursive: true }),
    });
  }
}
