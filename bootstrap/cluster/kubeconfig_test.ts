import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { parse } from "yaml";
import { GatewayError } from "../../vm/base/error.ts";
import {
  kubeconfigPath,
  readCredentials,
  removeKubeconfig,
  renderKubeconfig,
  writeKubeconfig,
} from "./kubeconfig.ts";

const pem = (label: string, body: string) =>
  `-----BEGIN ${label}-----\n${body}\n-----END ${label}-----\n`;
const CA = pem("CERTIFICATE", "Y2E=");
const CERT = pem("CERTIFICATE", "Y2VydA==");
const KEY = pem("EC PRIVATE KEY", "a2V5");

const K3S_YAML = `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: ${btoa(CA)}
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
users:
- name: default
  user:
    client-certificate-data: ${btoa(CERT)}
    client-key-data: ${btoa(KEY)}
`;

const OWNER = { instance: "default", instanceDir: "/data/instances/default" };
const OTHER = { instance: "dev", instanceDir: "/data/instances/dev" };

async function withTemporary(fn: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gateway-kubeconfig-" });
  try {
    await fn(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("renderKubeconfig() puts names into quotes that kubectl would take for something else", () => {
  for (const instance of ["on", "y", "0b11", "0o17", "1e3"]) {
    const text = renderKubeconfig(K3S_YAML, 45123, { ...OWNER, instance });
    assert(text.includes(`instance: "${instance}"\n`), text);
  }
});

Deno.test("renderKubeconfig() gives the golden text when the instance is `default`", () => {
  assertEquals(
    renderKubeconfig(K3S_YAML, 45123, OWNER),
    `apiVersion: v1
kind: Config
clusters:
  - name: gateway
    cluster:
      certificate-authority-data: ${btoa(CA)}
      server: https://127.0.0.1:45123
users:
  - name: gateway
    user:
      client-certificate-data: ${btoa(CERT)}
      client-key-data: ${btoa(KEY)}
contexts:
  - name: gateway
    context:
      cluster: gateway
      user: gateway
current-context: gateway
extensions:
  - name: gateway.local/instance
    extension:
      instance: default
      instanceDir: /data/instances/default
`,
  );
});

Deno.test("renderKubeconfig() names everything after the instance when it is not `default`", () => {
  const config = parse(renderKubeconfig(K3S_YAML, 1, OTHER));
  assertEquals(config["current-context"], "gateway-dev");
  assertEquals(
    [config.clusters[0].name, config.users[0].name, config.contexts[0].name],
    ["gateway-dev", "gateway-dev", "gateway-dev"],
  );
});

Deno.test("renderKubeconfig() takes over no command, token or path when the guest is hostile", () => {
  const hostile = K3S_YAML
    .replace("  user:\n", "  user:\n    exec: {command: /bin/sh, args: [-c, id]}\n    token: t\n")
    .replace("  cluster:\n", "  cluster:\n    proxy-url: http://evil\n")
    .replace(
      "- cluster:\n",
      "- cluster:\n    insecure-skip-tls-verify: true\n    proxy-url: http://evil\n",
    );
  const text = renderKubeconfig(hostile, 1, OWNER);
  assertEquals(text, renderKubeconfig(K3S_YAML, 1, OWNER));
  assert(!/exec|token|proxy|insecure/.test(text));
});

Deno.test("readCredentials() gives the three texts when the kubeconfig is k3s's", () => {
  assertEquals(readCredentials(K3S_YAML), { caPem: CA, certPem: CERT, keyPem: KEY });
});

for (
  const [name, text] of [
    ["empty", ""],
    ["not YAML", `client-key-data: "${btoa(KEY)}\n\t{`],
    ["without a user", K3S_YAML.replace(/users:[\s\S]+/, "users: []\n")],
    ["with a key that is not PEM", K3S_YAML.replace(btoa(KEY), btoa("junk"))],
    ["with a key that is not base64", K3S_YAML.replace(btoa(KEY), '"%%%"')],
    ["made of aliases", "a: &a [x]\nb: [*a, *a]\n" + K3S_YAML],
    ["too long", K3S_YAML + "#".repeat(300_000)],
  ] as const
) {
  Deno.test(`readCredentials() refuses without quoting the key when the text is ${name}`, () => {
    const error = assertThrows(() => readCredentials(text), GatewayError);
    assertEquals(error.code, "guest-failed");
    assert(!error.message.includes(btoa(KEY)) && error.cause === undefined);
  });
}

Deno.test("kubeconfigPath() is under ~/.kube and named after the instance", () => {
  assert(kubeconfigPath("default").endsWith("/.kube/gateway.yaml"));
  assert(kubeconfigPath("dev").endsWith("/.kube/gateway-dev.yaml"));
});

Deno.test("writeKubeconfig() makes a private file in a private folder and writes over its own", () =>
  withTemporary(async (dir) => {
    const path = join(dir, "kube", "gateway.yaml");
    const write = (apiPort: number) =>
      writeKubeconfig({ k3sYaml: K3S_YAML, apiPort, owner: OWNER, path });
    assertEquals(await write(1), { path, context: "gateway" });
    await Deno.chmod(path, 0o644);
    await write(2);
    assertEquals(
      parse(await Deno.readTextFile(path)).clusters[0].cluster.server,
      "https://127.0.0.1:2",
    );
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
    assertEquals(Deno.statSync(join(dir, "kube")).mode! & 0o777, 0o700);
    assertEquals([...Deno.readDirSync(join(dir, "kube"))].length, 1);
  }));

Deno.test("writeKubeconfig() refuses the main kubeconfig and any file that is not ours", () =>
  withTemporary(async (dir) => {
    const attempt = async (path: string) => {
      const error = await assertRejects(
        () => writeKubeconfig({ k3sYaml: K3S_YAML, apiPort: 1, owner: OWNER, path }),
        GatewayError,
      );
      assertEquals(error.code, "file-foreign");
    };
    await attempt(join(dir, ".kube", "config"));
    const foreign = join(dir, "mine.yaml");
    await Deno.writeTextFile(foreign, K3S_YAML);
    await attempt(foreign);
    assertEquals(await Deno.readTextFile(foreign), K3S_YAML);
  }));

Deno.test("writeKubeconfig() does not write through a symbolic link", () =>
  withTemporary(async (dir) => {
    const target = join(dir, "target");
    await Deno.writeTextFile(target, "");
    const path = join(dir, "gateway.yaml");
    await Deno.symlink(target, path);
    await writeKubeconfig({ k3sYaml: K3S_YAML, apiPort: 1, owner: OWNER, path });
    assertEquals(await Deno.readTextFile(target), "");
    assertEquals(Deno.lstatSync(path).isSymlink, false);
  }));

Deno.test("removeKubeconfig() removes only what the same instance wrote", () =>
  withTemporary(async (dir) => {
    const path = join(dir, "gateway.yaml");
    assertEquals(await removeKubeconfig(OWNER, path), false);
    await Deno.writeTextFile(path, K3S_YAML);
    assertEquals(await removeKubeconfig(OWNER, path), false);
    await Deno.remove(path);
    await writeKubeconfig({ k3sYaml: K3S_YAML, apiPort: 1, owner: OWNER, path });
    assertEquals(await removeKubeconfig(OTHER, path), false);
    assertEquals(await removeKubeconfig({ ...OWNER, instanceDir: "/else" }, path), false);
    assertEquals(await removeKubeconfig(OWNER, path), true);
    assertEquals([...Deno.readDirSync(dir)], []);
  }));
