/**
 * The instance's certificates as other programs see them: openssl's verifier, Deno's TLS, and a server that insists on a
 * client certificate. Everything stays on the loopback; openssl's tests are skipped where it is not installed.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { localTransport, MAX_ANSWER_BYTES } from "../bootstrap/cluster/local_transport.ts";
import { getOnce } from "../bootstrap/cluster/probe_request.ts";
import { ensurePki, type Pki } from "../bootstrap/credentials/pki.ts";
import { freeLoopbackPort } from "../net/forward.ts";
import { silentSpan } from "../vm/base/event.ts";
import { run, which } from "../vm/base/process.ts";
import { waitFor } from "../vm/base/wait.ts";
import { startOpensslServer } from "./fakes/openssl_server.ts";

const HAS_OPENSSL = which("openssl") !== undefined;
const never = new AbortController().signal;

async function withPki(fn: (pki: Pki, other: Pki) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gateway-pki-" });
  try {
    const make = (name: string) =>
      ensurePki(join(dir, name), { span: silentSpan(), signal: never });
    await fn(await make("pki"), await make("other"));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Handshakes with a Deno TLS listener that shows the server certificate. */
async function handshake(pki: Pki, hostname: string, caPem: string): Promise<void> {
  using listener = Deno.listenTls({
    hostname: "127.0.0.1",
    port: 0,
    cert: pki.server.certPem,
    key: pki.server.keyPem,
  });
  const accepted = listener.accept().then(async (connection) => {
    try {
      await connection.handshake();
    } catch {
      // The client's side of the story is the one asserted.
    } finally {
      connection.close();
    }
  });
  const { port } = listener.addr as Deno.NetAddr;
  const plain = await Deno.connect({ hostname: "127.0.0.1", port });
  try {
    const connection = await Deno.startTls(plain, { hostname, caCerts: [caPem] });
    try {
      await connection.handshake();
    } finally {
      connection.close();
    }
  } finally {
    await accepted;
  }
}

Deno.test("ensurePki() gives a server certificate that Deno's TLS accepts under each of its names", () =>
  withPki(async (pki) => {
    for (const name of ["127.0.0.1", "localhost", "openshell", "openshell.openshell.svc"]) {
      await handshake(pki, name, pki.caPem);
    }
  }));

Deno.test("localTransport() ends an answer that does not end, and holds no more of it than its bound", () =>
  withPki(async (pki) => {
    let sent = 0;
    await using server = Deno.serve({
      ...{ hostname: "127.0.0.1", port: 0, onListen: () => {} },
      ...{ cert: pki.server.certPem, key: pki.server.keyPem },
    }, () => {
      const piece = new Uint8Array(256 * 1024).fill(0x5b);
      const endless = new ReadableStream<Uint8Array>({
        pull: (sink) => {
          sent += piece.length;
          sink.enqueue(piece);
        },
      });
      return new Response(endless);
    });
    const { certPem, keyPem } = pki.client;
    using api = localTransport(server.addr.port, { caPem: pki.caPem, certPem, keyPem });
    const before = Deno.memoryUsage().rss;
    await assertRejects(
      () => api.send({ method: "GET", path: "/api", signal: AbortSignal.timeout(60_000) }),
      Error,
      "the API's answer is too long",
    );
    assert(sent < 4 * MAX_ANSWER_BYTES, `${sent} bytes were sent`);
    const grownMiB = (Deno.memoryUsage().rss - before) / 2 ** 20;
    assert(grownMiB < 100, `${grownMiB} MiB`);
  }));

Deno.test("ensurePki() gives a server certificate that is refused under another name or authority", () =>
  withPki(async (pki, other) => {
    await assertRejects(() => handshake(pki, "example.com", pki.caPem));
    await assertRejects(() => handshake(pki, "127.0.0.1", other.caPem));
  }));

Deno.test({
  name:
    "ensurePki() gives a chain that openssl verifies for its purpose only (skipped without openssl)",
  ignore: !HAS_OPENSSL,
  fn: () =>
    withPki(async (pki, other) => {
      const verify = async (purpose: string, certPath: string, caPath = pki.caPath) => {
        const result = await run("openssl", {
          args: ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", caPath, certPath],
          check: false,
        });
        return result.code === 0;
      };
      assertEquals(await verify("sslserver", pki.server.certPath), true);
      assertEquals(await verify("sslclient", pki.client.certPath), true);
      assertEquals(await verify("sslclient", pki.server.certPath), false);
      assertEquals(await verify("sslserver", pki.client.certPath), false);
      assertEquals(await verify("sslserver", pki.server.certPath, other.caPath), false);
    }),
});

Deno.test({
  name: "ensurePki() marks the right extensions as critical (skipped without openssl)",
  ignore: !HAS_OPENSSL,
  fn: () =>
    withPki(async (pki) => {
      const show = async (path: string) =>
        (await run("openssl", { args: ["x509", "-in", path, "-noout", "-text"] })).stdout
          .replace(/\s+/g, " ");
      const ca = await show(pki.caPath);
      assertStringIncludes(ca, "Basic Constraints: critical CA:TRUE, pathlen:0");
      assertStringIncludes(ca, "Key Usage: critical Certificate Sign, CRL Sign");
      assertStringIncludes(ca, "Signature Algorithm: ecdsa-with-SHA256");
      const server = await show(pki.server.certPath);
      assertStringIncludes(server, "Basic Constraints: critical CA:FALSE");
      assertStringIncludes(server, "Key Usage: critical Digital Signature");
      assertStringIncludes(server, "Extended Key Usage: TLS Web Server Authentication");
      assertStringIncludes(
        await show(pki.client.certPath),
        "Extended Key Usage: TLS Web Client Authentication",
      );
    }),
});

Deno.test({
  name:
    "ensurePki() keeps issuing valid certificates whatever the random bits are (skipped without openssl)",
  ignore: !HAS_OPENSSL,
  fn: async () => {
    const { generateKey, issueCertificate } = await import("../bootstrap/credentials/x509.ts");
    const dir = await Deno.makeTempDir({ prefix: "gateway-pki-" });
    try {
      // Leading zeros in r, s or the point come up once in some dozens: enough tries to meet them all.
      const paths = await Promise.all(
        Array.from({ length: 200 }, async (_, index) => {
          const key = await generateKey();
          const path = join(dir, `${index}.crt`);
          const pem = await issueCertificate({
            role: "ca",
            commonName: `try ${index}`,
            publicKeyDer: key.publicKeyDer,
            issuer: key,
            notBefore: new Date(Date.now() - 1000),
            notAfter: new Date("2055-01-01T00:00:00Z"),
          });
          await Deno.writeTextFile(path, pem);
          return [path, pem] as const;
        }),
      );
      const bundle = join(dir, "all.pem");
      await Deno.writeTextFile(bundle, paths.map(([, pem]) => pem).join(""));
      const args = ["verify", "-x509_strict", "-check_ss_sig", "-CAfile", bundle];
      const { stdout } = await run("openssl", { args: [...args, ...paths.map(([path]) => path)] });
      assertEquals(stdout.trim().split("\n").filter((line) => line.endsWith(": OK")).length, 200);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});

Deno.test({
  name:
    "ensurePki() lets its own client into a mutual TLS server and nobody else (skipped without openssl)",
  ignore: !HAS_OPENSSL,
  fn: () =>
    withPki(async (pki, other) => {
      const port = freeLoopbackPort();
      await using _server = startOpensslServer(port, pki, pki);
      const get = (client: Pki["client"]) =>
        getOnce({
          port,
          path: "/",
          tls: { caPem: pki.caPem, certPem: client.certPem, keyPem: client.keyPem },
          signal: AbortSignal.timeout(5000),
        });
      const answer = await waitFor({
        what: "openssl's server",
        probe: () => get(pki.client),
        timeoutMs: 10_000,
      });
      assertEquals(answer.status, 200);
      assert(answer.body.length > 0);
      await assertRejects(() => get(other.client));
    }),
});
