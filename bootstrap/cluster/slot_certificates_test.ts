import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { kubeconfig } from "../../tests/fakes/kubeconfig.ts";
import { silentSpan } from "../../vm/base/event.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import { ensurePki, type Pki } from "../credentials/pki.ts";
import { adoptRenewed, certificatesNow, clusterEnds, isOld } from "./slot_certificates.ts";

const DAY_MS = 24 * 60 * 60_000;
const START_MS = Date.parse("2026-03-01T12:00:00Z");
const at = (days: number) => START_MS + days * DAY_MS;

/** An instance's folder with its certificates, and a function that looks after them at a later day. */
async function withInstance(
  fn: (
    paths: { dir: string; name: string; pkiDir: string },
    keys: (days: number) => Promise<Pki>,
  ) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  const pkiDir = join(dir, "pki");
  const how = { span: silentSpan(), signal: new AbortController().signal };
  const keys = (days: number) => ensurePki(pkiDir, { ...how, now: new Date(at(days)) });
  try {
    await keys(0);
    await fn({ dir, name: "dev", pkiDir }, keys);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const slot = (more: Partial<SavedState>) =>
  ({ from: null, certificates: null, clusterEnds: null, ...more }) as SavedState;

Deno.test("adoptRenewed() makes a guest adopt certificates that were renewed or made anew since the save", () =>
  withInstance(async (paths, keys) => {
    const saved = slot(await certificatesNow(paths));
    await keys(400);
    assertEquals(await adoptRenewed(paths, saved), saved);
    await keys(700);
    assertEquals((await adoptRenewed(paths, saved)).from, {
      name: "dev",
      pkiDir: join(paths.dir, "former", "pki"),
      k3sYaml: null,
      self: true,
    });
    const renewed = slot(await certificatesNow(paths));
    assertEquals(await adoptRenewed(paths, renewed), renewed);
    await Deno.remove(paths.pkiDir, { recursive: true });
    await keys(700);
    assertEquals((await adoptRenewed(paths, renewed)).from?.self, true);
  }));

Deno.test("adoptRenewed() leaves another instance's state, and one that does not say what it knows", () =>
  withInstance(async (paths) => {
    const from = { name: "other", pkiDir: "/other/pki", k3sYaml: null };
    for (const one of [slot({ from, certificates: "x" }), slot({})]) {
      assertEquals(await adoptRenewed(paths, one), one);
    }
  }));

Deno.test("isOld() judges a cluster by the end of its certificates, however often it was saved since", () =>
  withInstance(async (paths, keys) => {
    // As a cluster's own, which live a year: the cluster was made on day 0.
    const ends = new Date(at(365)).toISOString();
    const savedOn = (days: number) =>
      slot({ savedAt: new Date(at(days)).toISOString(), clusterEnds: ends });
    assertEquals(isOld(savedOn(190), at(270)), false);
    assertEquals(isOld(savedOn(270), at(280)), true);
    const unknown = slot({ savedAt: new Date(at(0)).toISOString() });
    assertEquals([isOld(unknown, at(199)), isOld(unknown, at(201))], [false, true]);
    const text = kubeconfig(await keys(0));
    assertEquals(clusterEnds(text), new Date(at(730)).toISOString());
    await Deno.writeTextFile(join(paths.dir, "k3s.yaml"), text);
    assertEquals((await certificatesNow(paths)).clusterEnds, clusterEnds(text));
    assertEquals(clusterEnds("no kubeconfig"), null);
  }));
