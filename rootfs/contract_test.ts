import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { sourcePath } from "../vm/base/source.ts";
import * as contract from "./contract.ts";

const { guestEnv, ...others } = contract;

/** Nothing in the guest reads these; they tell a person in the guest how it was started. */
const FOR_PEOPLE = ["GW_MODE", "GW_NAME", "GW_NET"];

async function filesBelow(dir: string, extension = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(dir)) {
    const path = join(dir, name);
    if (isDirectory) found.push(...await filesBelow(path, extension));
    else if (path.endsWith(extension) && !name.endsWith("_test.go")) found.push(path);
  }
  return found;
}

/** Go constants and shell variables that the guest's sources make their paths of, and bind mounts, as one sees them there. */
const SPELLINGS: readonly (readonly [RegExp, string])[] = [
  [/"?\$run"?(?=\/)/g, "/run/gateway"],
  [/(?<![\w/])\/state\/rancher/g, "/var/lib/rancher"],
  [/layout\.RunDir \+ "/g, "/run/k3s"],
];

/** What the guest's side says: its scripts, the sources of its programs, and the paths that these have in the image. */
async function guestSide(): Promise<string> {
  const guest = sourcePath("rootfs/guest");
  const scripts = await filesBelow(guest);
  const programs = [
    ...await filesBelow(sourcePath("rootfs/agent"), ".go"),
    ...await filesBelow(sourcePath("rootfs/kubenode"), ".go"),
  ];
  const texts = await Promise.all([...scripts, ...programs].map((path) => Deno.readTextFile(path)));
  const image = [
    ...scripts.map((path) => path.replace(guest, "/usr/lib/gateway")),
    "/usr/lib/gateway/agent",
    "/sbin/gateway-init",
  ];
  return SPELLINGS.reduce(
    (text, [spelled, path]) => text.replaceAll(spelled, path),
    [...texts, ...image].join("\n"),
  );
}

const side = await guestSide();

Deno.test("every path of the contract is one of the guest's", () => {
  const paths = Object.entries(others).map(([name, path]) => [name, String(path)] as const);
  const wrong = paths.filter(([, path]) => !side.includes(path));
  assertEquals(wrong, []);
});

Deno.test("the guest reads every variable of the contract but those for people", () => {
  const settings = { name: "one", hostname: "one", net: "tsi", dns: "192.0.2.1" } as const;
  const modes = ["cluster", "exec"] as const;
  const names = modes.flatMap((mode) => Object.keys(guestEnv({ mode, ...settings })));
  const unread = [...new Set(names)].filter((name) => !new RegExp(`\\b${name}\\b`).test(side));
  assertEquals(unread.sort(), FOR_PEOPLE);
});

Deno.test("guestEnv() describes a cluster's boot", () => {
  const { GW_CLOCK, ...env } = guestEnv({
    mode: "cluster",
    name: "one",
    hostname: "two",
    net: "gvproxy",
  });
  assertEquals(env, {
    GW_MODE: "cluster",
    GW_NAME: "one",
    GW_HOSTNAME: "two",
    GW_NET: "gvproxy",
    GW_K3S_ARGS: "",
  });
  assertEquals(Math.abs(Number(GW_CLOCK) - Date.now() / 1000) < 60, true);
});

Deno.test("guestEnv() names the resolvers of a guest that has this host's network", () => {
  const settings = { mode: "exec", name: "one", hostname: "gateway", net: "tsi" } as const;
  assertEquals(guestEnv({ ...settings, dns: "192.0.2.1 192.0.2.2" }).GW_DNS, "192.0.2.1 192.0.2.2");
  assertEquals("GW_DNS" in guestEnv(settings), false);
  assertEquals("GW_K3S_ARGS" in guestEnv(settings), false);
});
