import { assert, assertEquals } from "@std/assert";
import { X509Certificate } from "node:crypto";
import { join } from "@std/path";
import { kubeconfig } from "../../tests/fakes/kubeconfig.ts";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { silentSpan } from "../../vm/base/event.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import { readCredentials } from "../cluster/kubeconfig.ts";
import { adoptRenewed, certificatesNow, isOld } from "../cluster/slot_certificates.ts";
import { ensurePki } from "../credentials/pki.ts";
import { generateKey, issueCertificate } from "../credentials/x509.ts";
import { CertificateWatch, dueCertificates } from "./certificate_watch.ts";

const DAY_MS = 24 * 60 * 60_000;
const START_MS = Date.parse("2026-03-01T12:00:00Z");
const { signal } = new AbortController();

/** A client's certificate that lives a year, as a cluster makes it. */
async function clusterClient(nowMs: number): Promise<string> {
  const key = await generateKey();
  const certPem = await issueCertificate({
    ...{ role: "client", commonName: "system:admin", issuer: key, publicKeyDer: key.publicKeyDer },
    notBefore: new Date(nowMs - DAY_MS),
    notAfter: new Date(nowMs + 365 * DAY_MS),
  });
  return kubeconfig({ caPem: certPem, client: { certPem, keyPem: key.privateKeyPem } });
}

/** An instance in simulated time: what its folder holds, and what its guest shows. */
class Simulated {
  day = 0;
  resumes = 0;
  readonly paths;
  #watch: CertificateWatch | undefined;
  #due = false;
  #service = "";
  #cluster = "";

  constructor(dir: string) {
    this.paths = { dir, name: "dev", pkiDir: join(dir, "pki") };
  }

  get nowMs(): number {
    return START_MS + this.day * DAY_MS;
  }

  /** A boot, or a resume from what was saved. */
  async start(saved?: SavedState): Promise<void> {
    const span = silentSpan();
    const pki = await ensurePki(this.paths.pkiDir, { span, signal, now: new Date(this.nowMs) });
    const slot = saved && await adoptRenewed(this.paths, saved);
    if (!slot || slot.from) this.#service = pki.server.certPem;
    if (!slot || isOld(slot, this.nowMs)) this.#cluster = await clusterClient(this.nowMs);
    await Deno.writeTextFile(join(this.paths.dir, "k3s.yaml"), this.#cluster);
    this.#due = false;
    const onDue = () => void (this.#due = true);
    this.#watch = new CertificateWatch(this.paths, span, signal, onDue, () => this.nowMs);
    await this.#watch.look();
  }

  async suspend(): Promise<SavedState> {
    this.#watch = undefined;
    return { from: null, ...await certificatesNow(this.paths) } as SavedState;
  }

  /** Runs on for a while; what is shown is valid all the time. */
  async run(days: number): Promise<void> {
    for (const end = this.day + days; this.day < end; this.day++) {
      await this.#watch!.look();
      if (this.#due) {
        this.resumes++;
        await this.start(await this.suspend());
      }
      const files = ["ca", "server", "client"].map((name) => `${this.paths.pkiDir}/${name}.crt`);
      const shown = await Promise.all(files.map((path) => Deno.readTextFile(path)));
      const yaml = await Deno.readTextFile(join(this.paths.dir, "k3s.yaml"));
      for (const text of [this.#cluster, yaml]) shown.push(readCredentials(text).certPem);
      for (const pem of [...shown, this.#service]) {
        const { validToDate, subject } = new X509Certificate(pem);
        assert(validToDate.getTime() > this.nowMs, `${subject} ended before day ${this.day}`);
      }
    }
  }
}

for (
  const [life, phases, most] of [
    ["runs for 800 days", [[800, 0]], 4],
    ["is suspended every month", Array.from({ length: 12 }, () => [30, 31]), 4],
    ["is suspended for months", [[20, 300], [80, 200], [250, 90], [300, 0]], 4],
  ] as const
) {
  Deno.test(`an instance that ${life} shows no certificate that has ended`, async () => {
    const dir = await tempDir();
    const instance = new Simulated(dir);
    await instance.start();
    for (const [running, asleep] of phases) {
      await instance.run(running);
      const saved = await instance.suspend();
      instance.day += asleep;
      await instance.start(saved);
    }
    assert(instance.resumes <= most, `it was resumed ${instance.resumes} times`);
  });
}

Deno.test("CertificateWatch leaves alone what its own start could not renew", async () => {
  const dir = await tempDir();
  const paths = { dir, pkiDir: join(dir, "pki") };
  await Deno.writeTextFile(join(dir, "k3s.yaml"), await clusterClient(START_MS));
  let nowMs = START_MS + 300 * DAY_MS;
  let due = 0;
  const watch = new CertificateWatch(paths, silentSpan(), signal, () => due++, () => nowMs);
  await watch.look();
  await watch.look();
  assertEquals([due, [...await dueCertificates(paths, nowMs)]], [0, ["the cluster's"]]);
  // The kubeconfig came late, and a year goes by.
  await Deno.writeTextFile(join(dir, "k3s.yaml"), await clusterClient(nowMs));
  await watch.look();
  nowMs += 300 * DAY_MS;
  await watch.look();
  await watch.look();
  assertEquals(due, 1);
});
