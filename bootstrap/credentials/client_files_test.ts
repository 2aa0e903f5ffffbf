import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import {
  deactivateClientFiles,
  openshellConfigDir,
  readLoginToken,
  removeClientFiles,
  useClientFiles,
  writeClientFiles,
  type WriteClientFilesOptions,
  writeLoginToken,
} from "./client_files.ts";
import { type LoginToken, renderMetadata } from "./client_metadata.ts";
import type { Owner } from "./owner.ts";

const DEFAULT: Owner = { instance: "default", instanceDir: "/data/instances/default" };
const DEV: Owner = { instance: "dev", instanceDir: "/data/instances/dev" };

interface Fixture {
  readonly configDir: string;
  write(owner: Owner, port?: number, more?: Partial<WriteClientFilesOptions>): Promise<unknown>;
  active(): string | undefined;
}

async function withConfig(fn: (fixture: Fixture) => Promise<void>): Promise<void> {
  const base = await Deno.makeTempDir({ prefix: "gateway-client-" });
  const configDir = join(base, "openshell");
  try {
    await fn({
      configDir,
      write: (owner, port = 30051, more = {}) =>
        writeClientFiles({
          activate: "first",
          ...more,
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
    assertEquals(error.code, "file-foreign");
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

const RUNNING = { activate: "free", isRunning: () => Promise.resolve(true) } as const;
const STOPPED = { activate: "free", isRunning: () => Promise.resolve(false) } as const;

Deno.test("writeClientFiles() leaves the active gateway when it is never to change it", () =>
  withConfig(async ({ configDir, write, active }) => {
    await write(DEV, 1, { activate: "never" });
    assertEquals(active(), undefined);
    await addForeign(configDir, "prod");
    await write(DEFAULT, 1, { activate: undefined });
    assertEquals(active(), "prod\n");
  }));

Deno.test("writeClientFiles() takes a free place only when it may not be the first", () =>
  withConfig(async ({ configDir, write, active }) => {
    await write(DEV, 1, RUNNING);
    assertEquals(active(), "gateway-dev");
    await addForeign(configDir, "prod");
    await write(DEV, 1, STOPPED);
    assertEquals(active(), "prod\n");
    await Deno.remove(join(configDir, "gateways", "prod"), { recursive: true });
    await write(DEV, 1, RUNNING);
    assertEquals(active(), "gateway-dev");
  }));

Deno.test("writeClientFiles() leaves the place to an instance that runs, and takes it from one that does not", () =>
  withConfig(async ({ write, active }) => {
    await write(DEFAULT);
    await write(DEV, 1, RUNNING);
    await write(DEV, 1, { ...RUNNING, activate: "first" });
    assertEquals(active(), "gateway");
    await write(DEV, 1, STOPPED);
    assertEquals(active(), "gateway-dev");
  }));

Deno.test("useClientFiles() makes an entry the active one, at its later starts too", () =>
  withConfig(async ({ configDir, write, active }) => {
    await write(DEFAULT);
    await write(DEV, 1, RUNNING);
    const used = await useClientFiles(DEV, configDir);
    assertEquals(used, { name: "gateway-dev", previous: "gateway" });
    assertEquals(active(), "gateway-dev");
    await deactivateClientFiles(DEV, configDir);
    assertEquals(active(), "gateway");
    await write(DEV, 1, RUNNING);
    assertEquals(active(), "gateway-dev");
    await useClientFiles(DEFAULT, configDir);
    assertEquals(active(), "gateway");
    await deactivateClientFiles(DEV, configDir);
    await write(DEV, 1, RUNNING);
    assertEquals(active(), "gateway");
  }));

Deno.test("writeClientFiles() leaves a gateway that was chosen after it had been used", () =>
  withConfig(async ({ configDir, write, active }) => {
    await write(DEV);
    await useClientFiles(DEV, configDir);
    await deactivateClientFiles(DEV, configDir);
    await addForeign(configDir, "prod");
    await write(DEV, 1, RUNNING);
    assertEquals(active(), "prod\n");
  }));

Deno.test("useClientFiles() refuses an instance without client files", () =>
  withConfig(async ({ configDir, write, active }) => {
    await write(DEFAULT);
    const error = await assertRejects(() => useClientFiles(DEV, configDir), GatewayError);
    assertEquals(error.code, "instance-stopped");
    assertEquals(active(), "gateway");
  }));

const TOKEN: LoginToken = {
  accessToken: "T1",
  expiresAt: 1_800_000_000_999,
  issuer: "https://kubernetes.default.svc.cluster.local",
  audience: "openshell-cli",
};

Deno.test("writeClientFiles() writes a login's token as OpenShell's client reads it", () =>
  withConfig(async ({ configDir, write }) => {
    const dir = join(configDir, "gateways", "gateway");
    await write(DEFAULT, 30051, { login: TOKEN });
    const path = join(dir, "oidc_token.json");
    assertEquals(modeOf(path), 0o600);
    assertEquals(JSON.parse(await Deno.readTextFile(path)), {
      access_token: "T1",
      expires_at: 1_800_000_000,
      issuer: "https://kubernetes.default.svc.cluster.local",
      client_id: "openshell-cli",
    });
    assertEquals(JSON.parse(await Deno.readTextFile(join(dir, "metadata.json"))), {
      name: "gateway",
      gateway_endpoint: "https://127.0.0.1:30051",
      is_remote: false,
      gateway_port: 30051,
      auth_mode: "oidc",
      oidc_issuer: "https://kubernetes.default.svc.cluster.local",
      oidc_client_id: "openshell-cli",
      oidc_audience: "openshell-cli",
    });
    assertEquals(await Deno.readTextFile(join(dir, "mtls", "ca.crt")), "CA\n");
    await write(DEFAULT);
    assertEquals(await readLoginToken(DEFAULT, configDir), undefined);
  }));

Deno.test("writeLoginToken() replaces the token of its own entry only", () =>
  withConfig(async ({ configDir, write }) => {
    await write(DEFAULT, 30051, { login: TOKEN });
    const second = { ...TOKEN, accessToken: "T2", expiresAt: 1_900_000_000_000 };
    await writeLoginToken({ ...DEFAULT, instanceDir: "/else" }, second, configDir);
    await writeLoginToken(DEV, second, configDir);
    assertEquals((await readLoginToken(DEFAULT, configDir))?.accessToken, "T1");
    await writeLoginToken(DEFAULT, second, configDir);
    assertEquals(await readLoginToken(DEFAULT, configDir), second);
    assertEquals(await readLoginToken({ ...DEFAULT, instanceDir: "/else" }, configDir), undefined);
  }));

Deno.test("deactivateClientFiles() takes the token away, of an entry that is not active too", () =>
  withConfig(async ({ configDir, write, active }) => {
    await write(DEFAULT, 30051, { login: TOKEN });
    await addForeign(configDir, "prod");
    await deactivateClientFiles(DEFAULT, configDir);
    assertEquals(await readLoginToken(DEFAULT, configDir), undefined);
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
