import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { instanceConfig } from "../../tests/fakes/instance_config.ts";
import { GatewayError } from "../../vm/base/error.ts";
import {
  findInstance,
  type HostService,
  LockedInstance,
  requireInstance,
} from "../../vm/instance/instance.ts";
import { changeHostServices, hostServicesOf } from "../commands/host_service.ts";
import {
  applyHostServices,
  changedHostServices,
  hostServiceFlags,
  leftBehindWords,
} from "./host_service.ts";

const ollama: HostService = { hostPort: 11434, guestPort: 11434 };
const web: HostService = { hostPort: 8000, guestPort: 80 };
const signal = new AbortController().signal;

const config = instanceConfig({
  name: "dev",
});

Deno.test("hostServiceFlags() tells a list, none, and nothing said apart", () => {
  assertEquals(hostServiceFlags({ hostService: ["11434", "8000:80"] }), [ollama, web]);
  assertEquals(hostServiceFlags({ hostService: false }), false);
  assertEquals([hostServiceFlags({ hostService: [] }), hostServiceFlags({})], [
    undefined,
    undefined,
  ]);
});

Deno.test("changedHostServices() adds and removes exactly one service", () => {
  const both = changedHostServices([ollama], { verb: "add", service: web });
  assertEquals(both, [web, ollama]);
  assertEquals(changedHostServices(both, { verb: "add", service: web }), both);
  assertEquals(changedHostServices(both, { verb: "remove", service: web }), [ollama]);
});

Deno.test("changedHostServices() refuses a port of the guest that is taken, and what is not there", () => {
  const refusals: [Parameters<typeof changedHostServices>, string, string][] = [
    [
      [[web], { verb: "add", service: { hostPort: 9000, guestPort: 80 } }],
      "port-in-use",
      "the guest's port 80 leads to port 8000 of this host already",
    ],
    [[[], { verb: "remove", service: web }], "usage", "the instance has none"],
    [
      [[web, ollama], { verb: "remove", service: { hostPort: 80, guestPort: 80 } }],
      "usage",
      "the instance has only 8000:80, 11434",
    ],
  ];
  for (const [[services, change], code, why] of refusals) {
    const error = assertThrows(() => changedHostServices(services, change), GatewayError);
    assertEquals([error.code, error.why], [code, why]);
  }
});

Deno.test("leftBehindWords() names the services and the command for a clone", () => {
  assertEquals(
    leftBehindWords("default", "try-1", [web, ollama]),
    'Host services of "default" (8000:80, 11434) are closed to its clones. ' +
      "To open one: gateway host-service add --name try-1 8000:80",
  );
});

/** Runs a test with the instance `dev` in folders of its own. */
async function withInstance(body: () => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gw-" });
  const names = ["XDG_DATA_HOME", "XDG_RUNTIME_DIR"] as const;
  const before = names.map((name) => Deno.env.get(name));
  names.forEach((name) => Deno.env.set(name, dir));
  try {
    {
      await using locked = await LockedInstance.open("dev");
      await locked.saveConfig(config);
    }
    await body();
  } finally {
    names.forEach((name, at) =>
      before[at] === undefined ? Deno.env.delete(name) : Deno.env.set(name, before[at])
    );
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("changeHostServices() is remembered by an instance that does not run", () =>
  withInstance(async () => {
    await changeHostServices("dev", { verb: "add", service: ollama }, signal);
    await changeHostServices("dev", { verb: "add", service: web }, signal);
    assertEquals(await hostServicesOf("dev"), [web, ollama]);
    await changeHostServices("dev", { verb: "remove", service: ollama }, signal);
    const { config: now, state } = await requireInstance("dev");
    assertEquals([now, state], [{ ...config, hostServices: [web] }, "stopped"]);
  }));

Deno.test("changeHostServices() of a running instance is its supervisor's, and not done without it", () =>
  withInstance(async () => {
    await using _held = await LockedInstance.open("dev");
    const change = { verb: "add", service: ollama } as const;
    const error = await assertRejects(
      () => changeHostServices("dev", change, signal),
      GatewayError,
    );
    assertEquals([error.code, error.what], [
      "instance-locked",
      'Cannot change the host services of the instance "dev"',
    ]);
    assertEquals(await hostServicesOf("dev"), []);
  }));

/** Keeps what it is asked for. */
function fakeGvproxy() {
  const calls: string[] = [];
  const call = (verb: string) => (service: HostService) => {
    calls.push(`${verb} ${service.hostPort}:${service.guestPort}`);
    return Promise.resolve();
  };
  return { calls, client: { addHostService: call("add"), removeHostService: call("remove") } };
}

Deno.test("applyHostServices() changes the running network and what the instance remembers", () =>
  withInstance(async () => {
    const { paths } = await requireInstance("dev");
    const { calls, client } = fakeGvproxy();
    await applyHostServices(paths, client, { verb: "add", service: web }, signal);
    assertEquals((await findInstance("dev"))!.config.hostServices, [web]);
    await applyHostServices(paths, client, { verb: "remove", service: web }, signal);
    assertEquals((await findInstance("dev"))!.config.hostServices, []);
    assertEquals(calls, ["add 8000:80", "remove 8000:80"]);
  }));

Deno.test("applyHostServices() opens nothing that it cannot remember", () =>
  withInstance(async () => {
    const { paths } = await requireInstance("dev");
    const { calls, client } = fakeGvproxy();
    const nowhere = { ...paths, instanceFile: `${paths.dir}/gone/instance.json` };
    await assertRejects(() =>
      applyHostServices(nowhere, client, { verb: "add", service: web }, signal)
    );
    assertEquals(calls, ["add 8000:80", "remove 8000:80"]);
  }));
