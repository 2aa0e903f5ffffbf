import { assertEquals, assertLess, assertMatch, assertRejects } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { type Needs, registryOf, whyUnreachable } from "./reach.ts";
import type { Registries } from "./registries.ts";

const REF = "hub.invalid/team/app:1";

/** Looks with an environment and a registries.yaml of its own. */
function look(
  needs: Partial<Needs>,
  env: Record<string, string> = {},
  registries?: Registries,
): Promise<string | undefined> {
  const { signal } = new AbortController();
  return whyUnreachable({ refs: [], urls: [], ...needs }, {
    ...{ registries, signal },
    env: (name) => env[name],
  });
}

/** A place that takes connections. */
function listen() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return {
    host: `127.0.0.1:${(listener.addr as Deno.NetAddr).port}`,
    [Symbol.dispose]: () => listener.close(),
  };
}

Deno.test("registryOf() finds the registry of every form of a reference", () => {
  assertEquals(registryOf("ghcr.io/x/y:1"), "ghcr.io");
  assertEquals(registryOf("oci://127.0.0.1:5000/x"), "127.0.0.1:5000");
  assertEquals(registryOf("localhost/x"), "localhost");
  assertEquals(registryOf("library/app:1.2"), "docker.io");
  assertEquals(registryOf("app:1.2"), "docker.io");
});

Deno.test("whyUnreachable() names the host that does not exist, within the bound", async () => {
  const started = performance.now();
  assertMatch(
    (await look({ refs: [REF] }))!,
    /^hub\.invalid: (no such host|no answer within 2 s)$/,
  );
  assertMatch((await look({ urls: ["https://files.invalid/a/b"] }))!, /^files\.invalid: no /);
  assertLess(performance.now() - started, 6000);
});

Deno.test("whyUnreachable() takes one mirror that answers for enough, and a dead one for none", async () => {
  using there = listen();
  const mirrors = (...endpoint: string[]) => ({ mirrors: { "hub.invalid": { endpoint } } });
  const dead = "http://127.0.0.1:1";
  assertEquals(await look({ refs: [REF] }, {}, mirrors(dead, `http://${there.host}`)), undefined);
  assertMatch(
    (await look({ refs: [REF] }, {}, mirrors(dead)))!,
    /^127\.0\.0\.1:1: connection refused; hub\.invalid: no /,
  );
  const all = { mirrors: { "*": { endpoint: [there.host] } } };
  assertEquals(await look({ refs: [REF, "other.invalid/app:1"] }, {}, all), undefined);
  // Every one is needed.
  assertMatch((await look({ refs: [REF], urls: ["https://files.invalid/"] }, {}, all))!, /^files/);
});

Deno.test("whyUnreachable() knocks at the proxy where one stands between, and tells no password", async () => {
  using there = listen();
  const proxy = `http://someone:secret@${there.host}`;
  assertEquals(await look({ refs: [REF] }, { HTTPS_PROXY: proxy }), undefined);
  assertEquals(await look({ refs: [REF] }, { https_proxy: there.host }), undefined);
  const direct = { HTTPS_PROXY: proxy, NO_PROXY: "a.example, .invalid" };
  assertMatch((await look({ refs: [REF] }, direct))!, /^hub\.invalid: no /);
  const dead = { HTTPS_PROXY: "http://someone:secret@127.0.0.1:1" };
  const why = (await look({ refs: [REF] }, dead))!;
  assertEquals(why, "the proxy 127.0.0.1:1: connection refused");
  // Loopback is never behind one.
  assertEquals(await look({ urls: [`https://${there.host}/x`] }, dead), undefined);
});

Deno.test({
  name:
    "whyUnreachable() ends at its bound where nobody answers (Linux: what no listener has room for waits)",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 1 });
    const { hostname, port } = listener.addr as Deno.NetAddr;
    const { signal } = new AbortController();
    const taken = [];
    try {
      for (let count = 0; count < 2; count++) taken.push(await Deno.connect({ hostname, port }));
      const started = performance.now();
      const refs = [`${hostname}:${port}/one:1`];
      const urls = [`https://${hostname}:${port}/two`];
      const options = { registries: undefined, signal, env: () => undefined, timeoutMs: 150 };
      const why = await whyUnreachable({ refs, urls }, options);
      assertEquals(why, `${hostname}:${port}: no answer within 150 ms`);
      assertLess(performance.now() - started, 1000);
    } finally {
      for (const one of taken) one.close();
    }
  },
});

Deno.test("whyUnreachable() ends with its signal", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  const options = { registries: undefined, signal, env: () => undefined };
  const look = () => whyUnreachable({ refs: [REF], urls: [] }, options);
  assertEquals((await assertRejects(look, GatewayError)).code, "interrupted");
});
