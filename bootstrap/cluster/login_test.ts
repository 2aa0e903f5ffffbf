import { assertEquals, assertRejects } from "@std/assert";
import { EventLog } from "../../vm/base/event.ts";
import type { LoginToken } from "../credentials/client_metadata.ts";
import type { ApiCall } from "./api.ts";
import { isDue, keepLogin, requestToken } from "./login.ts";

const HOUR_MS = 60 * 60_000;

function jwt(claims: Record<string, unknown>): string {
  const part = (value: unknown) => btoa(JSON.stringify(value)).replace(/=+$/, "");
  return `${part({ alg: "RS256" })}.${part(claims)}.c2ln`;
}

Deno.test("requestToken() makes the account and requests a token of the payload's audience", async () => {
  const calls: ApiCall[] = [];
  const token = jwt({ iss: "https://issuer.example" });
  const api = {
    call: (call: ApiCall) => {
      calls.push(call);
      const status = { token, expirationTimestamp: "2030-01-01T00:00:00Z" };
      return Promise.resolve((call.method === "POST" ? { status } : {}) as never);
    },
  };
  const login = { audience: "openshell-cli", serviceAccount: "gateway-login" };
  const signal = new AbortController().signal;
  assertEquals(await requestToken(api, { namespace: "openshell", login }, signal), {
    accessToken: token,
    expiresAt: Date.parse("2030-01-01T00:00:00Z"),
    issuer: "https://issuer.example",
    audience: "openshell-cli",
  });
  const account = "/api/v1/namespaces/openshell/serviceaccounts/gateway-login";
  assertEquals(calls.map(({ method, path }) => `${method} ${path}`), [
    `PATCH ${account}?fieldManager=gateway&force=true`,
    `POST ${account}/token`,
  ]);
  assertEquals(calls[1]?.body, {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { audiences: ["openshell-cli"], expirationSeconds: 12 * 60 * 60 },
  });
});

Deno.test("requestToken() refuses an answer without a token", async () => {
  const api = { call: () => Promise.resolve({ status: {} } as never) };
  const login = { audience: "a", serviceAccount: "b" };
  const signal = new AbortController().signal;
  await assertRejects(() => requestToken(api, { namespace: "c", login }, signal));
});

Deno.test("isDue() looks at the wall clock in both directions", () => {
  const now = Date.parse("2030-01-01T00:00:00Z");
  const due = (leftMs: number) => isDue({ expiresAt: now + leftMs }, now);
  assertEquals(due(12 * HOUR_MS), false);
  assertEquals(due(9 * HOUR_MS), false);
  assertEquals(due(7 * HOUR_MS), true);
  assertEquals(due(-100 * HOUR_MS), true);
  // The clock was set back by a day.
  assertEquals(due(36 * HOUR_MS), true);
});

/** Runs keepLogin() on tokens or errors that come one after the other, until they are spent. */
async function keep(answers: readonly (LoginToken | Error)[]) {
  const end = new AbortController();
  const log = new EventLog();
  const told: string[] = [];
  log.addSink(({ kind, message }) => {
    if (message) told.push(`${kind}: ${message}`);
  });
  const written: LoginToken[] = [];
  let at = 0;
  await keepLogin({
    first: tokenUntil(1 * HOUR_MS),
    request: () => {
      const answer = answers[at++]!;
      if (at === answers.length) queueMicrotask(() => end.abort());
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
    write: (token) => Promise.resolve(void written.push(token)),
    isThere: () => Promise.resolve(true),
    span: log.span("login"),
    signal: end.signal,
    now: () => 0,
    lookMs: 1,
  });
  return { told, written };
}

const tokenUntil = (expiresAt: number): LoginToken => ({
  accessToken: `T${expiresAt}`,
  expiresAt,
  issuer: "i",
  audience: "a",
});

Deno.test("keepLogin() writes a new token when the old one has little time left", async () => {
  const fresh = tokenUntil(12 * HOUR_MS);
  assertEquals(await keep([fresh]), { told: [], written: [fresh] });
});

Deno.test("keepLogin() warns once and tries again when the cluster does not answer", async () => {
  const fresh = tokenUntil(12 * HOUR_MS);
  const { told, written } = await keep([new Error("no answer"), new Error("no answer"), fresh]);
  assertEquals(written, [fresh]);
  assertEquals(told, [
    "warn: the login's token could not be renewed: no answer",
    "log: the login's token is renewed again",
  ]);
});

Deno.test("keepLogin() bounds the records of a cluster whose tokens end at once and are refused by turns", async () => {
  const answers = Array.from({ length: 150 }, () => [new Error("no"), tokenUntil(0)]).flat();
  const { told } = await keep(answers);
  assertEquals([told.length, told.at(-1)], [
    101,
    "warn: too many renewals of the login's token in this run: the rest is not recorded",
  ]);
});

Deno.test("keepLogin() writes a token again that somebody removed", async () => {
  const end = new AbortController();
  const first = tokenUntil(12 * HOUR_MS);
  const written: LoginToken[] = [];
  const looks = [true, false, true];
  await keepLogin({
    ...{ first, span: new EventLog().span("login"), signal: end.signal, now: () => 0, lookMs: 1 },
    request: () => Promise.reject(new Error("not due")),
    write: (token) => Promise.resolve(void written.push(token)),
    isThere: () => {
      const there = looks.shift();
      if (there === undefined) end.abort();
      return Promise.resolve(there ?? true);
    },
  });
  assertEquals(written, [first]);
});
