/**
 * The readiness probes against servers on the loopback. They are Deno's own, so the client certificate is offered but not
 * asked for; tests/pki_test.ts and the demo's own tests cover that.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { askOnce, waitApiReady, waitServiceReady } from "../bootstrap/cluster/readiness.ts";
import { ensurePki, type Pki } from "../bootstrap/credentials/pki.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";

const SERVING = new Uint8Array([0, 0, 0, 0, 2, 8, 1]);
const never = new AbortController().signal;

async function withPki(fn: (pki: Pki) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gateway-ready-" });
  try {
    await fn(await ensurePki(join(dir, "pki"), { span: silentSpan(), signal: never }));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function withServer(
  pki: Pki | undefined,
  handler: (request: Request) => Response,
  fn: (port: number) => Promise<void>,
): Promise<void> {
  const tls = pki ? { cert: pki.server.certPem, key: pki.server.keyPem } : {};
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {}, ...tls },
    handler,
  );
  await fn(server.addr.port);
}

async function expectNotReady(promise: Promise<void>): Promise<GatewayError> {
  const error = await assertRejects(() => promise, GatewayError);
  assertEquals(error.code, "service-not-ready");
  return error;
}

const base = () => ({ span: silentSpan(), signal: never, timeoutMs: 5_000 });

Deno.test("waitServiceReady() goes through all probes when the health service reports SERVING", () =>
  withPki((pki) => {
    const seen: string[] = [];
    return withServer(pki, (request) => {
      seen.push(`${request.method} ${new URL(request.url).pathname}`);
      return new Response(SERVING, { headers: { "grpc-status": "0" } });
    }, async (port) => {
      const options = base();
      await waitServiceReady({ ...options, port, pki });
      assertEquals(seen, ["POST /grpc.health.v1.Health/Check"]);
      const started = options.span.events.filter((event) => event.kind === "start");
      assertEquals(started.map((event) => event.name), ["silent", "tcp", "tls", "grpc health"]);
    });
  }));

for (const host of ["127.0.0.2", "::1"]) {
  for (const protocol of ["grpcs", "https", "http"] as const) {
    Deno.test(`waitServiceReady() asks a ${protocol} service at ${host} when it is forwarded from there`, () =>
      withPki(async (pki) => {
        const { certPem: cert, keyPem: key } = pki.server;
        await using server = Deno.serve(
          {
            hostname: host,
            port: 0,
            onListen: () => {},
            ...(protocol === "http" ? {} : { cert, key }),
          },
          () => new Response(SERVING, { headers: { "grpc-status": "0" } }),
        );
        const { port } = server.addr;
        const service = { protocol };
        await waitServiceReady({ ...base(), host, port, pki, service });
        if (protocol !== "http") {
          const tls = { caPem: pki.caPem, ...pki.client };
          await askOnce(service, { host, port }, tls, never);
        }
      }));
  }
}

Deno.test("waitServiceReady() names the address it asked", async () => {
  const options = { ...base(), timeoutMs: 300, host: "::1", port: 1 };
  const error = await expectNotReady(
    waitServiceReady({ ...options, service: { protocol: "tcp" } }),
  );
  assertStringIncludes(error.what, "of the service on [::1]:1");
});

Deno.test("waitServiceReady() tries again until the service serves", () =>
  withPki((pki) => {
    let tries = 0;
    return withServer(pki, () => {
      tries++;
      return tries < 3
        ? new Response("starting", { status: 503 })
        : new Response(SERVING, { headers: { "grpc-status": "0" } });
    }, async (port) => {
      await waitServiceReady({ ...base(), port, pki });
      assertEquals(tries, 3);
    });
  }));

Deno.test("waitServiceReady() tells the last thing it saw when the bound is reached", () =>
  withPki((pki) =>
    withServer(
      pki,
      () => new Response(null, { headers: { "grpc-status": "14" } }),
      async (port) => {
        const error = await expectNotReady(
          waitServiceReady({ ...base(), port, pki, timeoutMs: 1_500 }),
        );
        assertEquals(error.why, "its health service answers with gRPC status 14");
        assert(error.fix.includes("gateway kubectl"));
      },
    )
  ));

Deno.test("waitServiceReady() asks a method of the service's own, and takes status 1 for healthy", () =>
  withPki((pki) => {
    const seen: string[] = [];
    // Degraded at first. The second field is a version.
    return withServer(pki, (request) => {
      seen.push(`${request.method} ${new URL(request.url).pathname}`);
      const status = seen.length < 3 ? 2 : 1;
      const body = new Uint8Array([0, 0, 0, 0, 9, 8, status, 18, 5, 48, 46, 48, 46, 48]);
      return new Response(body, { headers: { "grpc-status": "0" } });
    }, async (port) => {
      const health = { grpcMethod: "openshell.v1.OpenShell/Health" };
      await waitServiceReady({ ...base(), port, pki, service: { protocol: "grpcs", health } });
      assertEquals(seen, Array(3).fill("POST /openshell.v1.OpenShell/Health"));
    });
  }));

Deno.test("waitServiceReady() ends at the first answer that a method is not implemented", () =>
  withPki(async (pki) => {
    let asked = 0;
    const fault = async (health: { readonly grpcMethod?: string }) => {
      asked = 0;
      let error: GatewayError | undefined;
      await withServer(pki, () => {
        asked++;
        return new Response(null, { headers: { "grpc-status": "12" } });
      }, async (port) => {
        const service = { protocol: "grpcs", health } as const;
        error = await expectNotReady(waitServiceReady({ ...base(), port, pki, service }));
      });
      return error!;
    };
    const standard = await fault({});
    assertEquals(asked, 1);
    assertEquals(
      standard.why,
      "the service answers that it does not implement grpc.health.v1.Health/Check (gRPC status 12)",
    );
    assertStringIncludes(standard.fix, "service.health.grpcMethod");
    const own = await fault({ grpcMethod: "a.B/Health" });
    assertEquals(asked, 1);
    assertStringIncludes(own.why, "a.B/Health");
    assertStringIncludes(own.fix, '"a.B/Health" is not there');
  }));

Deno.test("waitServiceReady() does not accept a server of another authority", () =>
  withPki((pki) =>
    withPki((other) =>
      withServer(
        other,
        () => new Response(SERVING, { headers: { "grpc-status": "0" } }),
        async (port) => {
          const error = await expectNotReady(
            waitServiceReady({ ...base(), port, pki, timeoutMs: 1_000 }),
          );
          assert(/certificate|issuer/i.test(error.why), error.why);
        },
      )
    )
  ));

Deno.test("waitServiceReady() sees through a forward that accepts and closes", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = (async () => {
    for await (const connection of listener) connection.close();
  })();
  const { port } = listener.addr as Deno.NetAddr;
  const error = await expectNotReady(
    waitServiceReady({ ...base(), port, timeoutMs: 700, service: { protocol: "http" } }),
  );
  assertEquals(error.why, "the connection is closed at once, so nothing listens in the guest yet");
  listener.close();
  await accepting;
});

Deno.test("waitServiceReady() ends with the signal although a handshake is never answered", () =>
  withPki(async (pki) => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const held: Deno.Conn[] = [];
    const accepting = (async () => {
      for await (const connection of listener) held.push(connection);
    })();
    const { port } = listener.addr as Deno.NetAddr;
    const error = await assertRejects(
      () => waitServiceReady({ ...base(), port, pki, signal: AbortSignal.timeout(600) }),
      GatewayError,
    );
    assertEquals(error.code, "interrupted");
    for (const connection of held) connection.close();
    listener.close();
    await accepting;
  }));

Deno.test("waitServiceReady() takes any answer below 500 of a plain HTTP service", () =>
  withServer(undefined, () => new Response("", { status: 404 }), async (port) => {
    await waitServiceReady({ ...base(), port, service: { protocol: "http" } });
  }));

Deno.test("waitServiceReady() ignores a proxy named in the environment", () =>
  withServer(undefined, () => new Response("ok"), async (port) => {
    const before = Deno.env.get("HTTP_PROXY");
    Deno.env.set("HTTP_PROXY", "http://127.0.0.1:9");
    try {
      await waitServiceReady({ ...base(), port, service: { protocol: "http" }, timeoutMs: 2_000 });
    } finally {
      if (before === undefined) Deno.env.delete("HTTP_PROXY");
      else Deno.env.set("HTTP_PROXY", before);
    }
  }));

Deno.test("waitApiReady() waits for `ok` of /readyz and quotes the checks that fail", () =>
  withPki((pki) => {
    const credentials = { caPem: pki.caPem, ...pki.client };
    let ready = false;
    return withServer(pki, (request) => {
      if (new URL(request.url).pathname !== "/readyz") return new Response(null, { status: 404 });
      return ready
        ? new Response("ok")
        : new Response("[+]ping ok\n[-]etcd failed: reason withheld\n", { status: 500 });
    }, async (port) => {
      const error = await expectNotReady(
        waitApiReady({ ...base(), port, credentials, timeoutMs: 800 }),
      );
      assertEquals(
        error.why,
        "/readyz answers with HTTP status 500: [-]etcd failed: reason withheld",
      );
      ready = true;
      await waitApiReady({ ...base(), port, credentials });
    });
  }));
