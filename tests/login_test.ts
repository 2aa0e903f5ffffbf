/**
 * Who may log in, against a server that checks tokens as OpenShell's gateway does: RS256, issuer and audience, a cached set
 * of keys that is fetched again when a token names a key that is not in it.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { join } from "@std/path";
import { checkLogin } from "../bootstrap/cluster/login.ts";
import type { LoginToken } from "../bootstrap/credentials/client_metadata.ts";
import { ensurePki, type Pki } from "../bootstrap/credentials/pki.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { tempDir } from "./fakes/temp_dir.ts";

const ISSUER = "https://kubernetes.default.svc.cluster.local";
const never = new AbortController().signal;

/** The issuer of one cluster: what it publishes, and its tokens. */
class Issuer {
  readonly #pair = generateKeyPairSync("rsa", { modulusLength: 2048 });
  constructor(readonly kid: string) {}

  get jwk(): JsonWebKey & { kid: string } {
    return { ...this.#pair.publicKey.export({ format: "jwk" }), kid: this.kid };
  }

  token(audience = "openshell-cli"): string {
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const head = `${part({ alg: "RS256", kid: this.kid })}.${
      part({ iss: ISSUER, aud: [audience] })
    }`;
    const signature = sign("RSA-SHA256", Buffer.from(head), this.#pair.privateKey);
    return `${head}.${signature.toString("base64url")}`;
  }
}

const loginToken = (accessToken: string): LoginToken => ({
  accessToken,
  expiresAt: 0,
  issuer: ISSUER,
  audience: "openshell-cli",
});

/** A service with the keys of `known` in its memory, in a cluster that publishes those of `published`. */
async function withService(
  known: Issuer,
  published: Issuer,
  fn: (port: number, pki: Pki) => Promise<void>,
  options: { readonly letsInAnybody?: boolean } = {},
): Promise<void> {
  const pki = await ensurePki(join(await tempDir(), "pki"), { span: silentSpan(), signal: never });
  let keys = [known.jwk];
  const letsIn = (token: string): boolean => {
    const [head, body, signature] = token.split(".");
    const read = (text: string) => JSON.parse(Buffer.from(text, "base64url").toString());
    const { alg, kid } = read(head!);
    const { iss, aud } = read(body!);
    if (!keys.some((one) => one.kid === kid)) keys = [published.jwk];
    const key = keys.find((one) => one.kid === kid);
    return key !== undefined && alg === "RS256" && iss === ISSUER &&
      aud.includes("openshell-cli") && verify(
        "RSA-SHA256",
        Buffer.from(`${head}.${body}`),
        createPublicKey({ key, format: "jwk" }),
        Buffer.from(signature!, "base64url"),
      );
  };
  await using server = Deno.serve(
    {
      ...{ hostname: "127.0.0.1", port: 0, onListen: () => {} },
      ...{ cert: pki.server.certPem, key: pki.server.keyPem },
    },
    (request) => {
      const token = request.headers.get("authorization")?.replace("Bearer ", "");
      const good = token === undefined ? options.letsInAnybody === true : letsIn(token);
      return new Response(null, { headers: { "grpc-status": good ? "0" : "16" } });
    },
  );
  await fn(server.addr.port, pki);
}

const check = (port: number, pki: Pki, token: string, foreign?: string) =>
  checkLogin({
    ...{ port, tls: { caPem: pki.caPem, ...pki.client }, token: loginToken(token) },
    grpcMethod: "openshell.v1.OpenShell/GetCurrentUser",
    foreign: foreign === undefined ? undefined : { name: "source", token: foreign },
    ...{ timeoutMs: 60_000, signal: never },
  });

const refusal = async (checking: Promise<void>): Promise<string> =>
  (await assertRejects(() => checking, GatewayError)).why;

Deno.test("checkLogin() passes at a clone that has its source's keys in memory and publishes its own", async () => {
  const [source, clone] = [new Issuer("source"), new Issuer("clone")];
  await withService(source, clone, async (port, pki) => {
    await check(port, pki, clone.token(), source.token());
  });
});

Deno.test("checkLogin() refuses a clone that publishes its source's key", async () => {
  const source = new Issuer("source");
  await withService(source, source, async (port, pki) => {
    assertEquals(
      await refusal(check(port, pki, source.token(), source.token())),
      'openshell.v1.OpenShell/GetCurrentUser lets in a token of "source"',
    );
  });
});

Deno.test("checkLogin() refuses a service that lets in a client certificate alone", async () => {
  const own = new Issuer("own");
  await withService(own, own, async (port, pki) => {
    assertEquals(
      await refusal(check(port, pki, own.token())),
      "openshell.v1.OpenShell/GetCurrentUser lets in a client without a token",
    );
  }, { letsInAnybody: true });
});

Deno.test("checkLogin() tells what a service answers that refuses the instance's token", async () => {
  const [own, other] = [new Issuer("own"), new Issuer("other")];
  await withService(own, own, async (port, pki) => {
    const why = "openshell.v1.OpenShell/GetCurrentUser answers with gRPC status 16 " +
      "to this instance's token";
    assertEquals(await refusal(check(port, pki, other.token())), why);
    assertEquals(await refusal(check(port, pki, own.token("another"))), why);
  });
});
