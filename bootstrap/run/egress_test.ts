import { assertEquals } from "@std/assert";
import type { Refusal } from "../../net/egress.ts";
import { allowNetFlags, namedHosts, watchRefusals } from "./egress.ts";

Deno.test("allowNetFlags() tells a list, none, and nothing said apart", () => {
  assertEquals(allowNetFlags({ allowNet: ["10.1.2.3:443"] }), [{ net: "10.1.2.3/32", port: 443 }]);
  assertEquals(allowNetFlags({ allowNet: false }), false);
  assertEquals([allowNetFlags({ allowNet: [] }), allowNetFlags({})], [undefined, undefined]);
});

Deno.test("namedHosts() finds mirrors, configured registries and proxies with their ports", () => {
  const registries = {
    mirrors: {
      "docker.io": { endpoint: ["https://mirror.test", "http://10.1.2.3:5000/path"] },
      "*": { endpoint: ["mirror.test"] },
      "own.test": {},
    },
    configs: { "registry.test:5001": {}, "[fd00::1]:5002": {}, "*": {} },
  };
  const proxies = ["http://me:secret@proxy.test:3128", "proxy.test", "socks5://10.9.9.9"];
  assertEquals(namedHosts(registries, proxies), [
    { host: "mirror.test", port: 443 },
    { host: "10.1.2.3", port: 5000 },
    { host: "registry.test", port: 5001 },
    { host: "fd00::1", port: 5002 },
    { host: "proxy.test", port: 3128 },
    { host: "proxy.test", port: 80 },
    { host: "10.9.9.9", port: 1080 },
  ]);
  assertEquals(namedHosts(undefined, []), []);
});

Deno.test("watchRefusals() warns of each and ends with gvproxy, without a control character of the guest's", async () => {
  const said: string[] = [];
  const gvproxy = {
    async *refusals(): AsyncGenerator<Refusal> {
      yield await Promise.resolve({ kind: "dns", target: "a\x1b[31mb", reason: "none" });
      throw new Error("gvproxy ended");
    },
  };
  const span = { warn: (text: string) => void said.push(text) };
  await watchRefusals(gvproxy, span, new AbortController().signal);
  assertEquals(said, [
    'the guest was refused a look-up of "ab": nothing is open with --egress none; `gateway up --egress internet` opens it',
  ]);
});
