import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { parse } from "yaml";
import { GatewayError } from "../../vm/base/error.ts";
import { guestNetworkFiles } from "./guest_network.ts";

const PROXY = { hostProxy: true, hostCa: null };
const CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

const from = (env: Record<string, string>) => (name: string) => env[name];

Deno.test("guestNetworkFiles() gives nothing when nothing is asked for", async () => {
  const env = from({ HTTPS_PROXY: "http://127.0.0.1:3128" });
  assertEquals(await guestNetworkFiles(undefined, undefined, env), {
    registries: {},
    authorities: {},
  });
});

Deno.test("guestNetworkFiles() hands the host's proxy on, but not for the cluster's own addresses", async () => {
  const env = from({
    https_proxy: "http://me:secret@proxy.example:3128",
    NO_PROXY: "mine.example",
  });
  const { registries } = await guestNetworkFiles(PROXY, undefined, env);
  const lines = registries["containerd.env"]!.trim().split("\n");
  assertEquals(lines[0], "HTTPS_PROXY=http://me:secret@proxy.example:3128");
  assertEquals(lines.length, 2);
  assertEquals(lines[1]?.startsWith("NO_PROXY=mine.example,localhost,127.0.0.0/8"), true, lines[1]);
});

Deno.test("guestNetworkFiles() refuses a proxy that the guest cannot reach, without telling its password", async () => {
  for (
    const [env, words] of [
      [{}, "neither HTTPS_PROXY nor HTTP_PROXY is set"],
      [
        { HTTPS_PROXY: "http://me:secret@127.0.0.1:3128" },
        "loopback, which the guest cannot reach",
      ],
      [{ http_proxy: "localhost:3128" }, "loopback"],
      [{ http_proxy: "http://[::1]:3128" }, "loopback"],
      [{ http_proxy: "http://" }, "is no address"],
      [{ http_proxy: "http://a b:1" }, "is no address"],
    ] as const
  ) {
    const error = await assertRejects(
      () => guestNetworkFiles(PROXY, undefined, from(env)),
      GatewayError,
    );
    assertEquals(error.code, "settings-invalid");
    assertStringIncludes(error.why, words);
    assertEquals(error.message.includes("secret"), false);
  }
});

Deno.test("guestNetworkFiles() brings certificates along, and says which file is none", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const ca = join(dir, "ca.pem");
    await Deno.writeTextFile(ca, CERTIFICATE);
    const registries = {
      mirrors: { "ghcr.io": { endpoint: ["https://mirror.example"] } },
      configs: { "mirror.example": { tls: { ca_file: ca } } },
    };
    const files = await guestNetworkFiles({ hostProxy: false, hostCa: ca }, registries);
    assertEquals(files.authorities, { "host-ca.pem": CERTIFICATE });
    assertEquals(files.registries["containerd.env"], "SSL_CERT_DIR=/run/payload/authorities\n");
    assertEquals(files.registries["0-ca.pem"], CERTIFICATE);
    assertEquals(parse(files.registries["registries.yaml"]!), {
      mirrors: registries.mirrors,
      configs: { "mirror.example": { tls: { ca_file: "/run/payload/registries/0-ca.pem" } } },
    });

    const refused = async (hostCa: string) =>
      (await assertRejects(
        () => guestNetworkFiles({ hostProxy: false, hostCa }, undefined),
        GatewayError,
      )).why;
    assertEquals(await refused("ca.pem"), "it is not an absolute path");
    assertStringIncludes(await refused(join(dir, "none")), "No such file");
    await Deno.writeTextFile(ca, "x");
    assertEquals(await refused(ca), "it holds no certificate");
    await Deno.writeTextFile(ca, `${CERTIFICATE}-----BEGIN PRIVATE KEY-----\n`);
    assertEquals(await refused(ca), "it holds a private key");
    const commented = `# Its PRIVATE KEY is elsewhere\n${CERTIFICATE}`;
    await Deno.writeTextFile(ca, commented);
    const found = await guestNetworkFiles({ hostProxy: false, hostCa: ca }, undefined);
    assertEquals(found.authorities["host-ca.pem"], commented);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
