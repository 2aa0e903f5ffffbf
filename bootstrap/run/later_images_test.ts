import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { EventLog } from "../../vm/base/event.ts";
import type { RunRecord } from "../../vm/instance/instance.ts";
import type { ImageArchive } from "../images/ensure.ts";
import { laterImages, startLaterImages, waitLaterImages } from "./later_images.ts";

const IMAGE: ImageArchive = {
  ...{ ref: "r.test/base:1", path: "/none", sizeBytes: 1, sha256: "", names: [], digest: "" },
};
const error = (code: "guest-unreachable" | "disk-full") =>
  new GatewayError({ code, what: "Cannot load it", why: "there is a reason", fix: "none" });

/** Brings one image in, with a load that fails as often as there are errors. */
async function bring(errors: GatewayError[]) {
  const saved: Partial<RunRecord>[] = [];
  let loads = 0;
  const done = Promise.withResolvers<void>();
  await using _loading = startLaterImages({
    images: [IMAGE],
    load: () => errors[loads++] ? Promise.reject(errors[loads - 1]) : Promise.resolve(),
    save: (change) => {
      saved.push(change);
      done.resolve();
      return Promise.resolve();
    },
    span: new EventLog().span("up"),
    signal: new AbortController().signal,
  });
  await done.promise;
  return { saved: saved.map(({ laterImages }) => laterImages), loads };
}

Deno.test("startLaterImages() records that all are in, after a guest that did not answer once", async () => {
  const refs = [IMAGE.ref];
  assertEquals(await bring([error("guest-unreachable")]), {
    saved: [{ state: "loaded", refs, why: null }],
    loads: 2,
  });
});

Deno.test("startLaterImages() records a failure with its reason, and does not repeat it", async () => {
  const { saved, loads } = await bring([error("disk-full"), error("disk-full")]);
  assertEquals([saved[0]?.state, loads], ["failed", 1]);
  assertEquals(saved[0]?.why?.includes("there is a reason"), true, saved[0]?.why ?? "");
});

Deno.test("startLaterImages() ends when it is disposed and records nothing", async () => {
  const saved: unknown[] = [];
  const loading = startLaterImages({
    images: [IMAGE],
    load: (_, { signal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    save: (change) => Promise.resolve(saved.push(change)),
    span: new EventLog().span("up"),
    signal: new AbortController().signal,
  });
  await loading[Symbol.asyncDispose]();
  assertEquals(saved, []);
});

Deno.test("waitLaterImages() waits for the load, and throws where it failed", async () => {
  const { signal } = new AbortController();
  let looks = 0;
  const loading = laterImages([IMAGE]);
  await waitLaterImages(() => Promise.resolve(looks++ === 0 ? loading : {}), signal);
  assertEquals(looks, 2);
  const failed = { laterImages: { state: "failed", refs: [IMAGE.ref], why: "full" } } as const;
  const thrown = await assertRejects(
    () => waitLaterImages(() => Promise.resolve(failed), signal),
    GatewayError,
  );
  assertEquals([thrown.code, thrown.why], ["build-failed", "full"]);
});
