/**
 * The client of gvproxy's API against a server of the test's own; the real one is in tests/gvproxy_test.ts.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../vm/base/error.ts";
import { GvproxyClient } from "./gvproxy.ts";

/** Runs a test with a client whose server answers with `reply`; the requests are kept. */
async function withServer(
  reply: (method: string) => Response | Promise<Response>,
  test: (client: GvproxyClient, requests: string[]) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gw" });
  const requests: string[] = [];
  const server = Deno.serve(
    { transport: "unix", path: join(dir, "api"), onListen: () => {} },
    async (request) => {
      const path = new URL(request.url).pathname;
      requests.push(`${request.method} ${path} ${await request.text()}`.trim());
      return await reply(request.method);
    },
  );
  try {
    using client = new GvproxyClient(join(dir, "api"));
    await test(client, requests);
  } finally {
    await server.shutdown();
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("GvproxyClient sends what the API takes and returns what it answers", async () => {
  const forward = { protocol: "tcp" as const, local: "127.0.0.1:4711", remote: "192.168.127.2:22" };
  await withServer(
    (method) => Response.json(method === "GET" ? [forward] : forward),
    async (client, requests) => {
      assertEquals(await client.expose("127.0.0.1:0", "192.168.127.2:22"), forward);
      await client.unexpose("127.0.0.1:4711");
      assertEquals(await client.list(), [forward]);
      await client.addHostService({ hostPort: 11434, guestPort: 80 });
      await client.removeHostService({ hostPort: 11434, guestPort: 80 });
      await client.hostServices();
      await client.stats();
      await client.leases();
      assertEquals(requests, [
        'POST /forwards {"protocol":"tcp","local":"127.0.0.1:0","remote":"192.168.127.2:22"}',
        'DELETE /forwards {"protocol":"tcp","local":"127.0.0.1:4711"}',
        "GET /forwards",
        'POST /services {"hostPort":11434,"guestPort":80}',
        'DELETE /services {"hostPort":11434,"guestPort":80}',
        "GET /services",
        "GET /stats",
        "GET /leases",
      ]);
    },
  );
});

Deno.test("GvproxyClient.expose() names the holder when gvproxy says the port is taken", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const local = `127.0.0.1:${(listener.addr as Deno.NetAddr).port}`;
  const body = { code: "port-in-use", error: `${local} is in use by another process` };
  await withServer(() => Response.json(body, { status: 409 }), async (client) => {
    const error = await assertRejects(() => client.expose(local, ":80"), GatewayError);
    assertEquals([error.code, error.what], ["port-in-use", `Cannot forward "${local}"`]);
    assert(error.why.endsWith("holds it") || error.why === body.error, error.why);
  });
});

Deno.test("GvproxyClient.addHostService() names the service when its port of the guest is taken", async () => {
  const body = { code: "port-in-use", error: "the guest's port 80 already leads to port 1" };
  await withServer(() => Response.json(body, { status: 409 }), async (client) => {
    const service = { hostPort: 11434, guestPort: 80 };
    const error = await assertRejects(() => client.addHostService(service), GatewayError);
    assertEquals([error.code, error.what, error.why, error.fix], [
      "port-in-use",
      'Cannot change the host service "11434:80"',
      body.error,
      "choose another port of the guest: 11434:GUESTPORT",
    ]);
  });
});

Deno.test("GvproxyClient gives port-forward-failed when gvproxy refuses or babbles", async () => {
  const cases: [Response, string][] = [
    [Response.json({ code: "bad-request", error: "no" }, { status: 400 }), "no"],
    [new Response("<html>", { status: 500 }), "gvproxy answered 500"],
  ];
  for (const [response, why] of cases) {
    await withServer(() => response, async (client) => {
      const error = await assertRejects(() => client.list(), GatewayError);
      assertEquals([error.code, error.why], ["port-forward-failed", why]);
    });
  }
});

Deno.test("GvproxyClient gives port-forward-failed when nobody listens", async () => {
  using client = new GvproxyClient("/tmp/gateway-no-such-socket");
  const error = await assertRejects(() => client.list(), GatewayError);
  assertEquals([error.code, error.what], ["port-forward-failed", "Cannot talk to gvproxy"]);
});

Deno.test("GvproxyClient throws the signal's reason when it aborts", async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => release = resolve);
  await withServer(
    async () => {
      await held;
      return Response.json([]);
    },
    async (client) => {
      const abort = new AbortController();
      const call = client.list(abort.signal);
      setTimeout(() => abort.abort(), 20);
      const error = await assertRejects(() => call, GatewayError);
      release();
      assertEquals(error.code, "interrupted");
    },
  );
});

Deno.test("GvproxyClient.refused() refuses the answer of a gvproxy that does not count refusals", async () => {
  const counts = { refusedTcp: 1, refusedUdp: 2, refusedIcmp: 3, refusedDns: 4 };
  await withServer(() => Response.json(counts), async (client) => {
    assertEquals(await client.refused(), { tcp: 1, udp: 2, icmp: 3, dns: 4 });
  });
  await withServer(() => Response.json({ connections: 1 }), async (client) => {
    await assertRejects(() => client.refused(), Error, "refusedTcp");
  });
});
