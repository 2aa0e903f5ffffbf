import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { X509Certificate } from "node:crypto";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ensurePki, type Pki } from "./pki.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const START = new Date("2026-03-01T12:00:00Z");

function after(days: number): Date {
  return new Date(START.getTime() + days * DAY_MS);
}

async function withPki(
  fn: (dir: string, ensure: (now?: Date) => Promise<Pki>, warnings: string[]) => Promise<void>,
): Promise<void> {
  const base = await Deno.makeTempDir({ prefix: "gateway-pki-" });
  const span = silentSpan();
  const warnings: string[] = [];
  const dir = join(base, "pki");
  try {
    await fn(dir, async (now = START) => {
      const pki = await ensurePki(dir, { span, signal: new AbortController().signal, now });
      warnings.length = 0;
      warnings.push(...span.events.filter((e) => e.kind === "warn").map((e) => e.message!));
      return pki;
    }, warnings);
  } finally {
    await Deno.remove(base, { recursive: true });
  }
}

function modeOf(path: string): number {
  return Deno.statSync(path).mode! & 0o777;
}

Deno.test("ensurePki() makes a private, complete set when there is none", () =>
  withPki(async (dir, ensure, warnings) => {
    const pki = await ensure();
    assertEquals(pki.change, "created");
    assertEquals(warnings, []);
    assertEquals(modeOf(dir), 0o700);
    const files = [...Deno.readDirSync(dir)].map((entry) => entry.name).sort();
    assertEquals(files, [
      "ca.crt",
      "ca.key",
      "client.crt",
      "client.key",
      "server.crt",
      "server.key",
    ]);
    for (const file of files) assertEquals(modeOf(join(dir, file)), 0o600);
    assertEquals(await Deno.readTextFile(pki.server.keyPath), pki.server.keyPem);
    assertEquals(await Deno.readTextFile(pki.client.certPath), pki.client.certPem);
    assertEquals(await Deno.readTextFile(pki.caPath), pki.caPem);
  }));

Deno.test("ensurePki() gives right names, usages and lifetimes when it makes a set", () =>
  withPki(async (_dir, ensure) => {
    const pki = await ensure();
    const [ca, server, client] = [
      new X509Certificate(pki.caPem),
      new X509Certificate(pki.server.certPem),
      new X509Certificate(pki.client.certPem),
    ];
    assertEquals(ca.ca, true);
    assertEquals([server.ca, client.ca], [false, false]);
    assertEquals(
      server.subjectAltName,
      "DNS:openshell, DNS:openshell.openshell.svc, DNS:openshell.openshell.svc.cluster.local, " +
        "DNS:localhost, DNS:openshell.localhost, DNS:*.openshell.localhost, " +
        "DNS:host.docker.internal, DNS:host.containers.internal, IP Address:127.0.0.1, IP Address:::1",
    );
    assertEquals(client.subjectAltName, undefined);
    assert(server.checkIssued(ca) && client.checkIssued(ca));
    assert(server.verify(ca.publicKey) && client.verify(ca.publicKey));
    for (const certificate of [ca, server, client]) {
      assertEquals(certificate.validFromDate, new Date(START.getTime() - 60 * 60 * 1000));
    }
    assertEquals(ca.validToDate, after(3650));
    assertEquals([server.validToDate, client.validToDate], [after(730), after(730)]);
    assertEquals(new Set([ca, server, client].map((c) => c.serialNumber)).size, 3);
  }));

Deno.test("ensurePki() keeps the set when it is sound", () =>
  withPki(async (_dir, ensure) => {
    const first = await ensure();
    const second = await ensure(after(600));
    assertEquals(second, { ...first, change: "kept" });
  }));

Deno.test("ensurePki() renews the leafs and keeps the authority when they are nearly expired", () =>
  withPki(async (_dir, ensure, warnings) => {
    const first = await ensure();
    const second = await ensure(after(671));
    assertEquals(second.change, "renewed");
    assertEquals(warnings, []);
    assertEquals(second.caPem, first.caPem);
    assertNotEquals(second.server.keyPem, first.server.keyPem);
    assertNotEquals(second.client.certPem, first.client.certPem);
    assertEquals((await ensure(after(671))).change, "kept");
  }));

Deno.test("ensurePki() ends leafs with the authority when that has less time left", () =>
  withPki(async (_dir, ensure) => {
    const first = await ensure();
    const second = await ensure(after(3500));
    assertEquals([second.change, second.caPem], ["renewed", first.caPem]);
    assertEquals(new X509Certificate(second.server.certPem).validToDate, after(3650));
    assertEquals((await ensure(after(3559))).change, "kept");
    assertEquals((await ensure(after(3561))).change, "created");
  }));

for (const lost of ["server.key", "server.crt", "client.key", "client.crt"]) {
  Deno.test(`ensurePki() renews the leafs when ${lost} is missing`, () =>
    withPki(async (dir, ensure) => {
      const first = await ensure();
      await Deno.remove(join(dir, lost));
      const second = await ensure();
      assertEquals([second.change, second.caPem], ["renewed", first.caPem]);
    }));
}

for (const lost of ["ca.key", "ca.crt"]) {
  Deno.test(`ensurePki() makes a new authority and says so when ${lost} is missing`, () =>
    withPki(async (dir, ensure, warnings) => {
      const first = await ensure();
      await Deno.remove(join(dir, lost));
      const second = await ensure();
      assertEquals(second.change, "created");
      assertNotEquals(second.caPem, first.caPem);
      assertEquals(warnings, [
        `a new certificate authority replaces the stored one: ${lost} is missing`,
      ]);
    }));
}

Deno.test("ensurePki() renews the leafs when a key belongs to another certificate", () =>
  withPki(async (dir, ensure) => {
    await ensure();
    await Deno.copyFile(join(dir, "client.key"), join(dir, "server.key"));
    assertEquals((await ensure()).change, "renewed");
  }));

Deno.test("ensurePki() renews the leafs when server and client files are exchanged", () =>
  withPki(async (dir, ensure) => {
    await ensure();
    for (const end of ["crt", "key"]) {
      await Deno.rename(join(dir, `server.${end}`), join(dir, "x"));
      await Deno.rename(join(dir, `client.${end}`), join(dir, `server.${end}`));
      await Deno.rename(join(dir, "x"), join(dir, `client.${end}`));
    }
    assertEquals((await ensure()).change, "renewed");
  }));

Deno.test("ensurePki() renews the leafs when a file is cut short or garbled", () =>
  withPki(async (dir, ensure) => {
    for (const file of ["server.crt", "server.key", "client.crt", "client.key"]) {
      await ensure();
      const text = await Deno.readTextFile(join(dir, file));
      await Deno.writeTextFile(join(dir, file), text.slice(0, text.length / 2));
      assertEquals((await ensure()).change, "renewed", file);
      await Deno.writeTextFile(join(dir, file), "");
      assertEquals((await ensure()).change, "renewed", file);
    }
  }));

Deno.test("ensurePki() makes all anew when the authority is another instance's", () =>
  withPki((dir, ensure) =>
    withPki(async (otherDir, ensureOther) => {
      await ensure();
      await ensureOther();
      await Deno.copyFile(join(otherDir, "ca.crt"), join(dir, "ca.crt"));
      assertEquals((await ensure()).change, "created");
      await Deno.copyFile(join(otherDir, "ca.crt"), join(dir, "ca.crt"));
      await Deno.copyFile(join(otherDir, "ca.key"), join(dir, "ca.key"));
      assertEquals((await ensure()).change, "renewed");
    })
  ));

Deno.test("ensurePki() makes all anew when the clock went back before the set's start", () =>
  withPki(async (_dir, ensure) => {
    await ensure();
    assertEquals((await ensure(after(-1))).change, "created");
  }));

Deno.test("ensurePki() closes the modes and warns when somebody opened them", () =>
  withPki(async (dir, ensure, warnings) => {
    await ensure();
    await Deno.chmod(dir, 0o755);
    await Deno.chmod(join(dir, "ca.key"), 0o644);
    assertEquals((await ensure()).change, "kept");
    assertEquals([modeOf(dir), modeOf(join(dir, "ca.key"))], [0o700, 0o600]);
    assertEquals(warnings, [
      `"${dir}" was open to other users; its mode is now 700`,
      `"${join(dir, "ca.key")}" was open to other users; its mode is now 600`,
    ]);
  }));

Deno.test("ensurePki() uses the last whole set when a swap was cut", () =>
  withPki(async (dir, ensure) => {
    const first = await ensure();
    await Deno.rename(dir, `${dir}.old`);
    await Deno.mkdir(`${dir}.new`);
    await Deno.writeTextFile(join(`${dir}.new`, "ca.key"), "half");
    assertEquals(await ensure(), { ...first, change: "kept" });
  }));

Deno.test("ensurePki() writes nothing when it is aborted", async () => {
  const base = await Deno.makeTempDir({ prefix: "gateway-pki-" });
  try {
    await assertRejects(
      () =>
        ensurePki(join(base, "pki"), {
          span: silentSpan(),
          signal: AbortSignal.abort(),
          now: START,
        }),
      GatewayError,
    );
    assertEquals([...Deno.readDirSync(base)], []);
  } finally {
    await Deno.remove(base, { recursive: true });
  }
});

Deno.test("ensurePki() tells no secret in its events", () =>
  withPki(async (dir, ensure, warnings) => {
    const first = await ensure();
    await Deno.writeTextFile(join(dir, "ca.key"), first.server.keyPem);
    await ensure();
    assertEquals(warnings, [
      "a new certificate authority replaces the stored one: ca.key does not belong to ca.crt",
    ]);
  }));

Deno.test("ensurePki() gives the server's certificate further names and keeps them", async () => {
  const base = await Deno.makeTempDir({ prefix: "gateway-pki-" });
  const dir = join(base, "pki");
  const ensure = (extraNames: string[]) =>
    ensurePki(dir, {
      ...{ span: silentSpan(), signal: new AbortController().signal, now: START, extraNames },
    });
  try {
    const plain = await ensure([]);
    const named = await ensure(["gw.example", "192.0.2.7"]);
    assertEquals([named.change, named.caPem], ["renewed", plain.caPem]);
    const certificate = new X509Certificate(named.server.certPem);
    assertEquals(certificate.checkHost("gw.example"), "gw.example");
    assertEquals(certificate.checkIP("192.0.2.7"), "192.0.2.7");
    assertEquals(certificate.checkHost("localhost"), "localhost");
    assertEquals((await ensure(["gw.example"])).change, "kept");
    assertEquals((await ensure(["other.example"])).change, "renewed");
  } finally {
    await Deno.remove(base, { recursive: true });
  }
});

Deno.test("ensurePki() gives the client OpenShell's unit", () =>
  withPki(async (_dir, ensure) => {
    const { client } = await ensure();
    const subject = new X509Certificate(client.certPem).subject.split("\n");
    assertEquals(subject, ["O=gateway", "OU=openshell-user", "CN=openshell-client"]);
  }));
