import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../vm/error.ts";
import {
  deactivateClientFiles,
  openshellConfigDir,
  removeClientFiles,
  renderMetadata,
  writeClientFiles,
} from "./client_files.ts";
import type { Owner } from "./names.ts";

const DEFAULT: Owner = { instance: "default", instanceDir: "/data/instances/default" };
const DEV: Owner = { instance: "dev", instanceDir: "/data/instances/dev" };

interface Fixture {
  readonly configDir: string;
  write(owner: Owner, port?: number): Promise<unknown>;
  active(): string | undefined;
}

async function withConfig(fn: (fixture: Fixture) => Promise<void>): Promise<void> {
  const base = await Deno.makeTempDir({ prefix: "gateway-client-" });
  const configDir = join(base, "openshell");
  try {
    await fn({
      configDir,
      write: (owner, port = 30051) =>
        writeClientFiles({
          owner,
          port,
          caPem: "CA\n",
          client: { certPem: `CERT ${port}\n`, keyPem: "KEY\n" },
          configDir,
        }),
      active: () => {
        try {
          return Deno.readTextFileSync(join(configDir, "active_gateway"));
        } catch {
          return undefined;
        }
      },
    });
  } finally {
    await Deno.remove(base, { recursive: true });
  }
}

async function addForeign(configDir: string, name: string): Promise<void> {
  await Deno.mkdir(join(configDir, "gateways", name), { recursive: true });
  await Deno.writeTextFile(join(configDir, "gateways", name, "metadata.json"), "{}");
  await Deno.writeTextFile(join(configDir, "active_gateway"), `${name}\n`);
}

function modeOf(path: string): number {
  return Deno.statSync(path).mode! & 0o777;
}

Deno.test("openshellConfigDir() follows XDG_CONFIG_HOME", () => {
  const before = Deno.env.get("XDG_CONFIG_HOME");
  try {
    Deno.env.set("XDG_CONFIG_HOME", "/somewhere/else");
    assertEquals(openshellConfigDir(), "/somewhere/else/openshell");
  } finally {
    if (before === undefined) Deno.env.delete("XDG_CONFIG_HOME");
    else Deno.env.set("XDG_CONFIG_HOME", before);
  }
});

Deno.test("renderMetadata() gives the golden text", () => {
  assertEquals(
    renderMetadata("gateway", "127.0.0.1", 30051),
    `{
  "name": "gateway",
  "gateway_endpoint": "https://127.0.0.1:30051",
  "is_remote": false,
  "gateway_port": 30051,
  "auth_mode": "mtls"
}
`,
  );
});

Deno.test("writeClientFiles() writes a private entry and makes it active when nothing was there", () =>
  withConfig(async ({ configDir, write, active }) => {
    const dir = join(configDir, "gateways", "gateway");
    assertEquals(await write(DEFAULT), { name: "gateway", dir, active: true });
    assertEquals(active(), "gateway");
    assertEquals([...Deno.readDirSync(join(dir, "mtls"))].map((e) => e.name).sort(), [
      "ca.crt",
      "tls.crt",
      "tls.key",
    ]);
    assertEquals([modeOf(dir), modeOf(join(dir, "mtls"))], [0o700, 0o700]);
    assertEquals(modeOf(join(dir, "mtls", "tls.key")), 0o600);
    assertEquals(JSON.parse(await Deno.readTextFile(join(dir, "metadata.json"))).name, "gateway");
  }));

Deno.test("writeClientFiles() swaps certificates and port when the entry is its own", () =>
  withConfig(async ({ configDir, write }) => {
    await write(DEFAULT, 1);
    await write(DEFAULT, 2);
    const dir = join(configDir, "gateways", "gateway");
    assertEquals(await Deno.readTextFile(join(dir, "mtls", "tls.crt")), "CERT 2\n");
    assertEquals(JSON.parse(await Deno.readTextFile(join(dir, "metadata.json"))).gateway_port, 2);
    assertEquals([...Deno.readDirSync(dir)].map((e) => e.name).sort(), [
      ".gateway-instance.json",
      "metadata.json",
      "mtls",
    ]);
  }));

Deno.test("writeClientFiles() refuses an entry that another program or data folder wrote", () =>
  withConfig(async ({ configDir, write }) => {
    await addForeign(configDir, "gateway");
    const error = await assertRejects(() => write(DEFAULT), GatewayError);
    assertEquals(error.code, "usage");
    assertEquals(
      [...Deno.readDirSync(join(configDir, "gateways", "gateway"))].map((e) => e.name),
      ["metadata.json"],
    );
    await write(DEV);
    await assertRejects(() => write({ ...DEV, instanceDir: "/else" }), GatewayError);
  }));

Deno.test("writeClientFiles() goes on when a crash left an empty entry", () =>
  withConfig(async ({ configDir, write }) => {
    const dir = join(configDir, "gateways", "gateway");
    await Deno.mkdir(dir, { recursive: true });
    await Deno.writeTextFile(join(dir, ".gateway-instance.json.tmp-1"), "");
    await write(DEFAULT);
  }));

Deno.test("writeClientFiles() leaves the active gateway when it is told to", () =>
  withConfig(async ({ configDir, active }) => {
    await addForeign(configDir, "prod");
    const client = { certPem: "C", keyPem: "K" };
    const options = { owner: DEFAULT, port: 1, caPem: "A", client, configDir, activate: false };
    assertEquals((await writeClientFiles(options)).active, false);
    assertEquals(active(), "prod\n");
  }));

Deno.test("deactivateClientFiles() gives the active gateway back when it is still ours", () =>
  withConfig(async ({ configDir, write, active }) => {
    await addForeign(configDir, "prod");
    await write(DEFAULT);
    await write(DEFAULT);
    assertEquals(active(), "gateway");
    assertEquals(await deactivateClientFiles(DEFAULT, configDir), true);
    assertEquals(active(), "prod");
    assertEquals(await deactivateClientFiles(DEFAULT, configDir), false);
  }));

Deno.test("deactivateClientFiles() leaves nobody active when the previous entry is gone", () =>
  withConfig(async ({ configDir, write, active }) => {
    await addForeign(configDir, "prod");
    await write(DEFAULT);
    await Deno.remove(join(configDir, "gateways", "prod"), { recursive: true });
    await deactivateClientFiles(DEFAULT, configDir);
    assertEquals(active(), undefined);
  }));

Deno.test("deactivateClientFiles() leaves the user's later choice alone", () =>
  withConfig(async ({ configDir, write, active }) => {
    await write(DEFAULT);
    await addForeign(configDir, "prod");
    assertEquals(await deactivateClientFiles(DEFAULT, configDir), false);
    assertEquals(active(), "prod\n");
  }));

Deno.test("removeClientFiles() takes away only what the same instance wrote", () =>
  withConfig(async ({ configDir, write, active }) => {
    await addForeign(configDir, "prod");
    await write(DEFAULT);
    assertEquals(await removeClientFiles({ ...DEFAULT, instanceDir: "/else" }, configDir), false);
    assertEquals(await removeClientFiles(DEV, configDir), false);
    assertEquals(await removeClientFiles(DEFAULT, configDir), true);
    assertEquals([...Deno.readDirSync(join(configDir, "gateways"))].map((e) => e.name), ["prod"]);
    assertEquals(active(), "prod");
  }));

Deno.test("removeClientFiles() hands the predecessor on when the middle of three goes first", () =>
  withConfig(async ({ configDir, write, active }) => {
    await addForeign(configDir, "prod");
    await write(DEFAULT);
    await write(DEV);
    await removeClientFiles(DEFAULT, configDir);
    assertEquals(active(), "gateway-dev");
    await removeClientFiles(DEV, configDir);
    assertEquals(active(), "prod");
  }));

Deno.test("readers do not leave the folder when active_gateway names a path", () =>
  withConfig(async ({ configDir, write, active }) => {
    await Deno.mkdir(configDir, { recursive: true });
    await Deno.writeTextFile(join(configDir, "active_gateway"), "../../etc");
    await write(DEFAULT);
    await deactivateClientFiles(DEFAULT, configDir);
    assertEquals(active(), undefined);
  }));
