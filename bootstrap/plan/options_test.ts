import { assert, assertEquals, assertThrows } from "@std/assert";
import { hostArch } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import { DEFAULT_PORTS, hostFacts, resolveOptions, type UpRequest } from "./options.ts";

const FOREIGN = hostArch() === "amd64" ? "arm64" : "amd64";
const host = { cpus: 8, memoryMiB: 32_768 };
const request: UpRequest = { name: "default", assumeYes: false };
const stored: InstanceConfig = {
  schemaVersion: 1,
  name: "default",
  createdAt: "2026-01-02T03:04:05.000Z",
  cpus: 3,
  memoryMiB: 5000,
  stateMiB: 20_000,
  ports: [{ address: "127.0.0.1", hostPort: 40_051, guestPort: 30_051 }],
  vmm: "qemu",
  kubeApi: false,
  payload: "demo",
  payloadDigest: null,
  clusterBinary: null,
};

/** Each refused request with the three lines its user reads. */
const REFUSED: readonly (readonly [string, Partial<UpRequest>, readonly string[]])[] = [
  ["an unknown --net", { net: "bridge" }, [
    `Cannot use --net "bridge"`,
    "the choices are gvproxy, tsi, none",
    "pass --net gvproxy",
  ]],
  ["an unknown --vmm", { vmm: "xen" }, [
    `Cannot use --vmm "xen"`,
    "the choices are auto, qemu, libkrun",
    "pass --vmm auto",
  ]],
  ["an unknown --arch", { arch: "riscv64" }, [
    `Cannot use --arch "riscv64"`,
    "the choices are amd64, arm64",
    "pass --arch amd64",
  ]],
  ["a foreign --arch with libkrun", { arch: FOREIGN, vmm: "libkrun" }, [
    `Cannot use --arch "${FOREIGN}" with --vmm "libkrun"`,
    `libkrun runs guests of this host's own processor, ${hostArch()}`,
    "leave --vmm out: QEMU emulates the other one",
  ]],
  ["an unknown --payload", { payload: "x" }, [
    `Cannot use --payload "x"`,
    "the names are demo, openshell, and a folder's has a slash in it",
    "pass --payload demo, or --payload ./x for a folder",
  ]],
  ["tsi without libkrun", { net: "tsi", exec: ["/bin/true"] }, [
    `Cannot use --net "tsi"`,
    "only libkrun has it",
    "pass --net gvproxy",
  ]],
  ["a cluster without a network", { net: "none" }, [
    `Cannot start a cluster with --net "none"`,
    "its endpoint is reached through gvproxy",
    "leave --net out, or add --exec for a VM without a cluster",
  ]],
  ["a cluster over tsi", { net: "tsi", vmm: "libkrun" }, [
    `Cannot start a cluster with --net "tsi"`,
    "its endpoint is reached through gvproxy",
    "leave --net out, or add --exec for a VM without a cluster",
  ]],
  ["a host service without a network", {
    exec: ["/bin/true"],
    hostServices: [{ hostPort: 80, guestPort: 80 }],
  }, [
    `Cannot use --host-service with --net "none"`,
    "only gvproxy opens ports of this host to a guest",
    "add --net gvproxy",
  ]],
  ["an unknown --egress", { egress: "lan" }, [
    `Cannot use --egress "lan"`,
    "the choices are internet, all, none",
    "pass --egress internet",
  ]],
  ["an egress without gvproxy", { exec: ["/bin/true"], egress: "all" }, [
    `Cannot use --egress with --net "none"`,
    "only gvproxy judges what a guest reaches",
    "add --net gvproxy",
  ]],
  ["a network without gvproxy", {
    exec: ["/bin/true"],
    allowNets: [{ net: "10.0.0.0/8", port: null }],
  }, [
    `Cannot use --allow-net with --net "none"`,
    "only gvproxy judges what a guest reaches",
    "add --net gvproxy",
  ]],
  ["two host services on one port of the guest", {
    hostServices: [{ hostPort: 8000, guestPort: 80 }, { hostPort: 80, guestPort: 80 }],
  }, [
    `Cannot open the host services "8000:80" and "80"`,
    "both are port 80 in the guest",
    "give one of them another port: --host-service 80:GUESTPORT",
  ]],
  ["a library that is not named from the root on", { libkrun: "libkrun.so" }, [
    `Cannot use --libkrun "libkrun.so"`,
    "it is not an absolute path",
    "name the file from the root on",
  ]],
  ["a library for QEMU", { libkrun: "/lib/libkrun.so", vmm: "qemu" }, [
    `Cannot use --libkrun "/lib/libkrun.so"`,
    "the VMM is QEMU",
    "leave it out, or add --vmm libkrun",
  ]],
  ["no CPU", { cpus: 0 }, ["Cannot use --cpus 0", "a VM needs at least 1", "pass --cpus 2"]],
  ["less than no CPU", { cpus: -1 }, [
    "Cannot use --cpus -1",
    "a VM needs at least 1",
    "pass --cpus 2",
  ]],
  ["half a CPU", { cpus: 1.5 }, [
    "Cannot use --cpus 1.5",
    "a VM needs at least 1",
    "pass --cpus 2",
  ]],
  ["more CPUs than the host has", { cpus: 9 }, [
    "Cannot use --cpus 9",
    "this host has 8",
    "pass --cpus 8 or fewer",
  ]],
  ["64 MiB for a cluster", { memoryMiB: 64 }, [
    "Cannot use --memory 64",
    "a cluster needs at least 1536 MiB",
    "pass --memory 2048",
  ]],
  ["64 MiB for a program", { memoryMiB: 64, exec: ["/bin/true"] }, [
    "Cannot use --memory 64",
    "a VM needs at least 128 MiB",
    "pass --memory 2048",
  ]],
  ["more memory than the host has", { memoryMiB: 32_769 }, [
    "Cannot use --memory 32769",
    "this host has 32768 MiB",
    "pass --memory 16384",
  ]],
  ["an empty name", { name: "" }, [
    `Cannot use the instance name ""`,
    "it is empty",
    "choose a name such as `default` or `dev-2`",
  ]],
  ["a name with a path", { name: "../x" }, [
    `Cannot use the instance name "../x"`,
    "only a-z, 0-9 and - inside are allowed",
    "choose a name such as `default` or `dev-2`",
  ]],
  ["a name of 65 characters", { name: "a".repeat(65) }, [
    `Cannot use the instance name "${"a".repeat(65)}"`,
    "it has 65 characters and 63 is the most",
    "choose a name such as `default` or `dev-2`",
  ]],
  [
    "two forwards from one port",
    {
      ports: [
        { address: "127.0.0.1", hostPort: 1000, guestPort: 1 },
        { address: "127.0.0.1", hostPort: 1000, guestPort: 2 },
      ],
    },
    [
      `Cannot forward "127.0.0.1:1000" twice`,
      "two forwards start at the same port of this host",
      "give each --port its own host port",
    ],
  ],
];

for (const [what, change, lines] of REFUSED) {
  Deno.test(`resolveOptions() refuses ${what}`, () => {
    const error = assertThrows(() => resolveOptions({ ...request, ...change }, host), GatewayError);
    assertEquals([error.what, error.why, error.fix], [...lines]);
    assertEquals([error.code, error.exitCode], ["usage", 2]);
  });
}

Deno.test("resolveOptions() takes --net tsi with --exec on libkrun", () => {
  const asked = { ...request, net: "tsi", vmm: "libkrun", exec: ["/bin/true"] };
  assertEquals(resolveOptions(asked, host).net, "tsi");
});

Deno.test("resolveOptions() takes the largest and smallest values that are allowed", () => {
  const most = resolveOptions({ ...request, cpus: 8, memoryMiB: 32_768 }, host).config;
  assertEquals([most.cpus, most.memoryMiB], [8, 32_768]);
  const least = resolveOptions({ ...request, cpus: 1, memoryMiB: 1536 }, host).config;
  assertEquals([least.cpus, least.memoryMiB], [1, 1536]);
  resolveOptions({ ...request, name: "a".repeat(63) }, host);
});

Deno.test("resolveOptions() gives a cluster these defaults", () => {
  const before = Date.now();
  const { config, ...rest } = resolveOptions(request, host);
  const { createdAt, ...settled } = config;
  assert(Date.parse(createdAt) >= before);
  assertEquals(settled, {
    schemaVersion: 1,
    name: "default",
    cpus: 4,
    memoryMiB: 8192,
    stateMiB: 16_384,
    ports: DEFAULT_PORTS,
    vmm: "auto",
    kubeApi: true,
    payload: "demo",
    payloadDigest: null,
    clusterBinary: null,
  });
  assertEquals(rest, {
    net: "gvproxy",
    libkrun: undefined,
    assumeYes: false,
    clusterBinary: undefined,
    exec: undefined,
    cold: false,
  });
});

Deno.test("resolveOptions() caps the defaults by a small host", () => {
  const { config } = resolveOptions(request, { cpus: 2, memoryMiB: 6000 });
  assertEquals([config.cpus, config.memoryMiB], [2, 3000]);
});

Deno.test("resolveOptions() gives a program a small VM without a network", () => {
  const { config, net, exec } = resolveOptions({ ...request, exec: ["/bin/cat", "-"] }, host);
  assertEquals([config.cpus, config.memoryMiB, config.stateMiB, net], [2, 2048, 0, "none"]);
  assertEquals(exec, ["/bin/cat", "-"]);
});

Deno.test("resolveOptions() lets a program's VM have a network", () => {
  assertEquals(resolveOptions({ ...request, exec: ["x"], net: "gvproxy" }, host).net, "gvproxy");
});

Deno.test("resolveOptions() takes what the instance remembers before the defaults", () => {
  assertEquals(resolveOptions(request, host, stored).config, stored);
});

Deno.test("resolveOptions() takes flags before what the instance remembers", () => {
  const flags = {
    cpus: 2,
    memoryMiB: 2048,
    ports: [{ address: "127.0.0.1", hostPort: 1, guestPort: 30_051 }],
    vmm: "auto",
    kubeApi: true,
  } as const;
  const { config } = resolveOptions({ ...request, ...flags }, host, stored);
  assertEquals(config, { ...stored, ...flags });
});

Deno.test("resolveOptions() remembers what the cluster takes of this host's network until it is told otherwise", () => {
  const hostCa = "/etc/own.pem";
  const { config } = resolveOptions({ ...request, hostProxy: true, hostCa }, host);
  assertEquals(config.network, { hostProxy: true, hostCa });
  assertEquals(resolveOptions(request, host, config).config.network, config.network);
  const less = resolveOptions({ ...request, hostProxy: false }, host, config).config;
  assertEquals(less.network, { hostProxy: false, hostCa });
  const none = resolveOptions({ ...request, hostCa: false }, host, less).config;
  assertEquals("network" in none, false);
});

Deno.test("resolveOptions() refuses another size for a disk that is there", () => {
  const error = assertThrows(
    () => resolveOptions({ ...request, stateMiB: 30_000 }, host, stored),
    GatewayError,
  );
  assertEquals(error.why, "the instance has a state disk of 20000 MiB, and disks are not resized");
});

Deno.test("resolveOptions() keeps the remembered ports when the list of flags is empty", () => {
  assertEquals(resolveOptions({ ...request, ports: [] }, host, stored).config.ports, stored.ports);
});

Deno.test("resolveOptions() checks what the instance remembers against this host", () => {
  const error = assertThrows(
    () => resolveOptions(request, { cpus: 2, memoryMiB: 32_768 }, stored),
    GatewayError,
  );
  assertEquals(error.message, "Cannot use --cpus 3: this host has 2");
});

Deno.test("hostFacts() gives whole numbers of this host", () => {
  const { cpus, memoryMiB } = hostFacts();
  assert(Number.isInteger(cpus) && cpus >= 1);
  assert(Number.isInteger(memoryMiB) && memoryMiB >= 128);
});

Deno.test("resolveOptions() forwards the port of the payload that will run", () => {
  const payload = { service: { nodePort: 30080, protocol: "http", health: { timeoutSeconds: 9 } } };
  const { ports } = resolveOptions(request, host, undefined, payload as never).config;
  assertEquals(ports, [{ address: "127.0.0.1", hostPort: 30080, guestPort: 30080 }]);
});

Deno.test("resolveOptions() keeps an instance's payload, and refuses another one", () => {
  const hello = { ...stored, payload: "/srv/hello" };
  assertEquals(resolveOptions(request, host, hello).config.payload, "/srv/hello");
  const same = resolveOptions({ ...request, payload: "/srv/hello/" }, host, hello);
  assertEquals(same.config.payload, "/srv/hello");
  const error = assertThrows(
    () => resolveOptions({ ...request, payload: "demo" }, host, hello),
    GatewayError,
  );
  assertEquals(
    error.why,
    'the instance runs the folder "/srv/hello", and payloads are not exchanged',
  );
});

Deno.test("resolveOptions() opens no host service unless told, and remembers what it was told", () => {
  const [one, two] = [{ hostPort: 11_434, guestPort: 80 }, { hostPort: 8000, guestPort: 8000 }];
  const servicesOf = (change: Partial<UpRequest>, before?: InstanceConfig) =>
    resolveOptions({ ...request, ...change }, host, before).config.hostServices;
  const remembered = { ...stored, hostServices: [one] };
  assertEquals(servicesOf({}), undefined);
  assertEquals(servicesOf({ hostServices: [one] }), [one]);
  assertEquals(servicesOf({}, remembered), [one]);
  assertEquals(servicesOf({ hostServices: [two] }, remembered), [two]);
  assertEquals(servicesOf({ hostServices: false }, remembered), undefined);
  const exec = { exec: ["/bin/true"], net: "gvproxy", hostServices: [one] };
  assertEquals(servicesOf(exec), [one]);
});

Deno.test("resolveOptions() remembers egress and allowed networks until they are changed", () => {
  const net = { net: "10.0.0.0/8", port: null };
  const { config } = resolveOptions({ ...request, egress: "none", allowNets: [net, net] }, host);
  assertEquals([config.egress, config.allowNets], ["none", [net]]);
  const again = resolveOptions(request, host, config).config;
  assertEquals([again.egress, again.allowNets], ["none", [net]]);
  const open = resolveOptions({ ...request, egress: "internet", allowNets: false }, host, config);
  assertEquals(["egress" in open.config, "allowNets" in open.config], [false, false]);
});

Deno.test("resolveOptions() remembers an instance's processor, in either spelling, and does not exchange it", () => {
  const arm = resolveOptions({ ...request, arch: "aarch64" }, host).config;
  assertEquals(arm.arch, "arm64");
  assertEquals(resolveOptions(request, host, arm).config.arch, "arm64");
  assertEquals(resolveOptions({ ...request, arch: "x86_64" }, host).config.arch, undefined);
  // A record of before there was a choice is one of amd64.
  const error = assertThrows(
    () => resolveOptions({ ...request, arch: "arm64" }, host, stored),
    GatewayError,
  );
  assertEquals([error.what, error.why, error.fix], [
    `Cannot use --arch "arm64"`,
    "the instance is an amd64 guest, and its disk has programs for that processor",
    "leave --arch out, or make a new instance with another --name",
  ]);
});
