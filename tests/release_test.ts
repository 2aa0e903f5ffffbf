/**
 * A release as who downloads it sees it: what `deno task release --check` finds. A whole release is made in
 * tests/long/release_test.ts.
 *
 * @module
 */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { headerText } from "../bootstrap/package/header.ts";
import { lockedPackages } from "../bootstrap/package/papers.ts";
import { checkRelease, makeRelease } from "../bootstrap/package/release.ts";
import { digestFile } from "../vm/base/digest.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ENTITLEMENTS } from "../vm/libkrun/signed_runtime.ts";
import { makeSigningKey, signFile, trustKey } from "../vm/store/signing.ts";
import { machO } from "./fakes/mach_o.ts";

const { signal } = new AbortController();

interface Release {
  readonly dir: string;
  readonly keys: string;
  /** Writes a file and the list of all. */
  put(name: string, text: string): Promise<void>;
  /** Why it is refused. */
  refused(): Promise<string>;
}

async function withRelease(body: (release: Release) => Promise<void>): Promise<void> {
  const top = await Deno.makeTempDir({ prefix: "gw-release-" });
  const [dir, keys] = [join(top, "release"), join(top, "keys")];
  await Deno.mkdir(dir);
  const list = async () => {
    const names = [...Deno.readDirSync(dir)].map(({ name }) => name)
      .filter((name) => !name.startsWith("SHA256SUMS"));
    const lines = names.map(async (name) => `${await digestFile(join(dir, name))}  ${name}\n`);
    await Deno.writeTextFile(join(dir, "SHA256SUMS"), (await Promise.all(lines)).join(""));
  };
  try {
    await body({
      ...{ dir, keys },
      put: async (name, text) => {
        await Deno.writeTextFile(join(dir, name), text);
        await list();
      },
      refused: async () => {
        const error = await assertRejects(() => checkRelease(dir, keys), GatewayError);
        return `${error.code}: ${error.why}`;
      },
    });
  } finally {
    await Deno.remove(top, { recursive: true });
  }
}

Deno.test("checkRelease() finds what is missing, changed or added", () =>
  withRelease(async ({ dir, keys, put, refused }) => {
    assertEquals(await refused(), "artifact-corrupt: there is no SHA256SUMS in it");
    await put("gateway-linux-x64", "for Linux");
    await put("gateway.rb", "a formula");
    assertStringIncludes(await checkRelease(dir, keys), "no key is trusted here");
    await Deno.writeTextFile(join(dir, "gateway.rb"), "another");
    assertStringIncludes(await refused(), 'artifact-corrupt: "gateway.rb" has sha256 ');
    await Deno.remove(join(dir, "gateway.rb"));
    assertEquals(await refused(), 'artifact-corrupt: "gateway.rb" is missing');
    await put("gateway.rb", "a formula");
    await Deno.writeTextFile(join(dir, "more"), "");
    assertEquals(await refused(), 'artifact-corrupt: "more" is not in SHA256SUMS');
    await Deno.writeTextFile(join(dir, "SHA256SUMS"), "0000  ../gateway\n");
    assertStringIncludes(await refused(), "a line that is no digest of a file");
  }));

Deno.test("checkRelease() wants the signature of a trusted key as soon as there is one", () =>
  withRelease(async ({ dir, keys, put, refused }) => {
    await put("gateway-linux-x64", "for Linux");
    const { id, publicPath } = await makeSigningKey(keys);
    await trustKey(publicPath, keys);
    assertStringIncludes(await refused(), "signature-invalid: there is no ");
    const sums = join(dir, "SHA256SUMS");
    await signFile(sums, await Deno.readFile(sums), keys);
    assertEquals(await checkRelease(dir, keys), `signed by ${id}, which is trusted`);
    await put("gateway-linux-x64", "for somebody else");
    assertStringIncludes(await refused(), "signature-invalid: ");
  }));

Deno.test("checkRelease() looks at the Mac's file as macOS does", () =>
  withRelease(async ({ dir, keys, put, refused }) => {
    const file = async (bytes: Uint8Array<ArrayBuffer>) => {
      const path = join(dir, "gateway-darwin-arm64");
      const [runtime, app] = [{ sha256: "", sizeBytes: bytes.length }, {
        sha256: "",
        sizeBytes: 0,
      }];
      const facts = { version: "0.0.0", key: "key", system: "Darwin arm64", runtime, app };
      await Deno.writeTextFile(path, headerText(facts));
      await Deno.writeFile(path, bytes, { append: true });
      await put("gateway.rb", "");
    };
    const program = machO({ entitlements: ENTITLEMENTS });
    await file(program);
    await checkRelease(dir, keys);
    program[100]! ^= 1;
    await file(program);
    const named = 'artifact-corrupt: the runtime in "gateway-darwin-arm64"';
    assertEquals(await refused(), `${named}: page 0 is not what was signed`);
    await file(machO({ entitlements: ENTITLEMENTS.slice(1) }));
    assertEquals(await refused(), `${named}: it lacks com.apple.security.hypervisor`);
  }));

Deno.test("makeRelease() refuses a bad address before it makes anything", () =>
  withRelease(async ({ dir }) => {
    const parts = { span: silentSpan(), signal, assumeYes: false };
    const target = join(dir, "release");
    const error = await assertRejects(
      () => makeRelease({ dir: target, base: "ftp://example.invalid/", embed: false, parts }),
      GatewayError,
    );
    assertEquals([error.code, [...Deno.readDirSync(dir)]], ["usage", []]);
  }));

Deno.test("lockedPackages() takes each package once, without its peers", () => {
  const npm = { "@a/b@1.2.3_c@4.0.0": {}, "@a/b@1.2.3": {}, "c@4.0.0-rc.1": {} };
  assertEquals(lockedPackages(JSON.stringify({ npm })), [
    { name: "@a/b", version: "1.2.3" },
    { name: "c", version: "4.0.0-rc.1" },
  ]);
});
