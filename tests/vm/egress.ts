/**
 * What a guest reaches of this host's network: nothing by default, a network that the user names, and never what is
 * always closed.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { waitFor } from "../../vm/base/wait.ts";
import type { TestHome } from "./harness.ts";

const SAYS = "from the LAN";

/** An address of this host that is not loopback. */
function ownAddress(): string | undefined {
  return Deno.networkInterfaces().find(({ family, address }) =>
    family === "IPv4" && !address.startsWith("127.")
  )?.address;
}

/**
 * The isolation of an instance `name` that is stopped or suspended and is started again by `up` with more words: the
 * host's own address is refused at once, counted and told; `--allow-net` opens exactly one port of it, and is closed again.
 */
export async function assertEgress(home: TestHome, name = "default"): Promise<void> {
  const address = ownAddress();
  if (address === undefined) {
    // deno-lint-ignore no-console -- a skip says why
    return console.log("skipped: this host has loopback only");
  }
  const serve = () =>
    Deno.serve({ hostname: address, port: 0, onListen: () => {} }, () => new Response(SAYS));
  await using open = serve();
  await using other = serve();
  const heard = async (port: number, host = address) => {
    const ask = ["busybox", "wget", "-q", "-O", "-", "-T", "20", `http://${host}:${port}/`];
    return await home.call(["exec", "--name", name, "--", ...ask], { timeoutMs: 60_000 });
  };
  const refused = async (port: number, host = address) => {
    const { code, stdout, stderr } = await heard(port, host);
    assert(code !== 0 && stdout === "" && /refused/.test(stderr), `${host}:${port}: ${stderr}`);
  };
  const again = async (...words: string[]) => {
    await home.ok(["suspend", "--name", name]);
    await home.ok(["up", "--detach", "--name", name, ...words], { timeoutMs: 120_000 });
  };
  const egress = async () =>
    JSON.parse((await home.ok(["status", "--json", "--name", name])).stdout).egress;

  await refused(open.addr.port);
  for (const host of ["169.254.169.254", "168.63.129.16", "100.100.100.200"]) {
    await refused(80, host);
  }
  const ping = ["exec", "--name", name, "--", "busybox", "ping", "-c", "1", "-W", "5", address];
  assert((await home.call(ping)).code !== 0, "a ping of this host was answered");
  // A question to that address is a datagram to it.
  const question = ["busybox", "timeout", "5", "busybox", "nslookup", "data.example", address];
  assert((await home.call(["exec", "--name", name, "--", ...question])).code !== 0);
  const { mode, allowed, refused: counts } = await egress();
  assertEquals([mode, allowed], ["internet", []]);
  assert(counts.tcp >= 4 && counts.icmp >= 1 && counts.udp >= 1, JSON.stringify(counts));
  await waitFor({
    what: "the event of the refusal",
    probe: async () => {
      const told = (await home.events(name)).filter(({ kind }) => kind === "warn");
      return told.some(({ message }) =>
        /refused a connection to .*--allow-net \S+` opens it/.test(message ?? "")
      ) || undefined;
    },
    timeoutMs: 20_000,
  });

  const spec = `${address}/32:${open.addr.port}`;
  await again("--allow-net", spec);
  assertEquals((await heard(open.addr.port)).stdout, SAYS);
  await refused(other.addr.port);
  assertEquals((await egress()).allowed, [spec]);
  await again("--no-allow-net", "--egress", "none");
  await refused(open.addr.port);
  const look = await home.call(["exec", "--name", name, "--", "getent", "hosts", "data.example"]);
  assert(look.code !== 0 && (await egress()).refused.dns > 0);
  await again("--egress", "internet");
}
