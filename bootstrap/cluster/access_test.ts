import { assertEquals } from "@std/assert";
import { EventLog, type EventRecord } from "../../vm/base/event.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import { type ApiAccess, startKubeApi } from "./access.ts";

Deno.test("startKubeApi() is over once it is disposed, without a word", async () => {
  const log = new EventLog();
  const events: EventRecord[] = [];
  log.addSink((record) => void events.push(record));
  let settled = false;
  {
    // There is no such guest, so the kubeconfig never comes.
    const paths = { sshDir: "/nowhere", name: "nobody" };
    const access = { paths, slot: undefined, ports: { apiPort: 1 } } as ApiAccess;
    const never = new AbortController().signal;
    await using started = startKubeApi(log.span("up"), {} as InstanceConfig, access, never);
    void started.settled.then(() => settled = true);
  }
  assertEquals(settled, true);
  const told = events.map(({ kind, name }) => `${kind} ${name}`);
  assertEquals(told, ["start up", "start kubernetes api", "end kubernetes api"]);
});
