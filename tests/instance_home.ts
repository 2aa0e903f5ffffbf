/**
 * Data and runtime folders of a test's own within its own process, and an instance in them. The environment is the whole
 * process's, so only tests that do not run in parallel may use them.
 *
 * @module
 */
import { join } from "@std/path";
import { LockedInstance } from "../vm/instance/instance.ts";
import { instanceConfig } from "./fakes/instance_config.ts";

/** Folders of one test; the environment names them while it runs. */
export interface Home {
  /** Holds all of them. */
  readonly top: string;
  /** XDG_RUNTIME_DIR. */
  readonly run: string;
}

/** Runs a test with folders of its own. */
export async function withHome(fn: (home: Home) => Promise<void>): Promise<void> {
  const top = await Deno.makeTempDir({ prefix: "gw-" });
  const home = { top, run: join(top, "run") };
  const variables = {
    XDG_DATA_HOME: join(top, "data"),
    XDG_CACHE_HOME: join(top, "cache"),
    XDG_CONFIG_HOME: join(top, "config"),
    XDG_RUNTIME_DIR: home.run,
  };
  const before = Deno.env.toObject();
  for (const [name, path] of Object.entries(variables)) {
    await Deno.mkdir(path, { mode: 0o700 });
    Deno.env.set(name, path);
  }
  try {
    await fn(home);
  } finally {
    for (const name of Object.keys(variables)) {
      if (before[name] === undefined) Deno.env.delete(name);
      else Deno.env.set(name, before[name]);
    }
    await Deno.remove(top, { recursive: true });
  }
}

/** Makes an instance that is stopped. */
export async function makeInstance(name: string): Promise<void> {
  await using instance = await LockedInstance.open(name);
  await instance.saveConfig(instanceConfig({ name }));
}
