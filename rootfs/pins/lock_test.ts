import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { defaultSuite, imageNames, k3sPin, suitePackages, suitePin } from "./lock.ts";

Deno.test("suitePin() names the known suites when asked for another", () => {
  const error = assertThrows(() => suitePin("sarge"), GatewayError);
  assertEquals(error.code, "usage");
  assertMatch(error.why, /bookworm, trixie, jammy/);
  // A name of Object.prototype is no suite either.
  assertThrows(() => suitePin("constructor"), GatewayError);
});

Deno.test("suitePackages() is sorted and has no name twice when a suite adds its own", () => {
  for (const suite of ["bookworm", "trixie", "jammy", defaultSuite]) {
    const packages = suitePackages(suite);
    assertEquals([...new Set(packages)].sort(), [...packages]);
    for (const name of ["busybox-static", "e2fsprogs", "nftables", "openssh-server"]) {
      assert(packages.includes(name), `${suite} lacks ${name}`);
    }
  }
});

Deno.test("k3sPin() has a whole URL and a digest or none when an architecture is asked for", () => {
  for (const arch of ["amd64", "arm64"] as const) {
    const pin = k3sPin(arch);
    assert(!pin.url.includes("{"), pin.url);
    assert(pin.sha256 === null || /^[0-9a-f]{64}$/.test(pin.sha256));
  }
});

Deno.test("imageNames are of our own registry name when the manifests use them", async () => {
  const names: string[] = Object.values(imageNames);
  for (const name of names) assertMatch(name, /^gateway\.local\/[a-z-]+:[0-9.]+$/);
  for (const file of ["gateway-coredns.yaml", "local-path.yaml"]) {
    const text = await Deno.readTextFile(new URL(`../manifests/${file}`, import.meta.url));
    const used = [...text.matchAll(/image: (\S+)/g)].map((match) => match[1]!);
    assert(used.length > 0);
    for (const image of used) assert(names.includes(image), `${file} uses ${image}`);
  }
});
