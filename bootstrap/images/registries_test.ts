import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { parseRegistries, readRegistries } from "./registries.ts";

const FILE = `
mirrors:
  docker.io:
    endpoint:
      - https://mirror.example/v2/hub
    rewrite:
      "^(.*)$": "kept/$1"
configs:
  mirror.example:
    auth: {username: someone, password: secret}
    tls: {ca_file: own/ca.pem}
`;

Deno.test("parseRegistries() takes k3s's form and makes paths absolute", () => {
  const found = parseRegistries(FILE, "/home/me/registries.yaml");
  assertEquals(found.configs?.["mirror.example"]?.tls?.ca_file, "/home/me/own/ca.pem");
  assertEquals(found.configs?.["mirror.example"]?.auth?.password, "secret");
  assertEquals(found.mirrors?.["docker.io"]?.endpoint, ["https://mirror.example/v2/hub"]);
  assertEquals(parseRegistries("", "/x"), {});
});

Deno.test("parseRegistries() names the line and the field of what is wrong, and no secret", () => {
  for (
    const [from, to, line, words] of [
      ["mirrors:", "mirors:", 2, "mirors"],
      ["endpoint:", "endpoints:", 4, "mirrors.docker.io.endpoints"],
      ["https://mirror.example/v2/hub", "ftp://mirror.example", 5, "no http or https address"],
      ["https://mirror.example/v2/hub", "https://a:secret@b", 5, "no http or https address"],
      ['"^(.*)$"', '"^(.*$"', 7, "no regular expression"],
      ["{username: someone, password: secret}", "secret", 10, "configs.mirror.example.auth"],
      ["password: secret", "pasword: secret", 10, "configs.mirror.example.auth.pasword"],
      ["ca_file: own/ca.pem", "ca_file: [7]", 11, "tls.ca_file: it has to be a text"],
      ["ca_file: own/ca.pem", "insecure_skip_verify: maybe", 11, "it has to be true or false"],
      ["configs:", "configs: [", 9, "it is no YAML"],
    ] as const
  ) {
    const error = assertThrows(() => parseRegistries(FILE.replace(from, to), "/r"), GatewayError);
    assertEquals([error.code, error.what], ["settings-invalid", 'Cannot use "/r"'], to);
    assertStringIncludes(error.why, words);
    if (words !== "it is no YAML") assertStringIncludes(error.why, `line ${line}:`);
    assertEquals(error.why.includes("secret"), false, error.why);
  }
});

Deno.test("parseRegistries() refuses names that are not a host, since the guest makes folders of them", () => {
  const wrong = ["", ".", "..", "../x", "a/b", "/etc", "_default", "a..b", "a b", "a:port", "[x]"];
  for (const name of [...wrong, "https://a.example", "a\\b", "a\n", "é.example"]) {
    for (const section of ["mirrors", "configs"]) {
      const text = `${section}:\n  ${JSON.stringify(name)}: {}\n`;
      const { code, why } = assertThrows(() => parseRegistries(text, "/r"), GatewayError);
      assertEquals(code, "settings-invalid");
      assertStringIncludes(why, "line 2:");
      assertStringIncludes(why, "not a registry's host");
    }
  }
  const right = ["*", "localhost", "my_registry:5000", "Docker.IO", "[::1]:5000", "10.0.0.1"];
  const mirrors = Object.fromEntries(right.map((name) => [name, {}]));
  assertEquals(parseRegistries(JSON.stringify({ mirrors }), "/r"), { mirrors });
});

Deno.test("parseRegistries() keeps names and passwords as the text that stands there", () => {
  const login = (user: string, password: string) =>
    parseRegistries(`configs: {a: {auth: {username: ${user}, password: ${password}}}}`, "/r")
      .configs?.a?.auth;
  assertEquals(login('"on"', '"1_000"'), { username: "on", password: "1_000" });
  assertEquals(login('"y"', '"no"'), { username: "y", password: "no" });
  assertEquals(login('"123"', '"0o17"'), { username: "123", password: "0o17" });
  // As k3s takes them: plain ones, too.
  assertEquals(login("on", "0123"), { username: "on", password: "0123" });
  assertEquals(login("1e3", "12345678901234567890"), {
    ...{ username: "1e3", password: "12345678901234567890" },
  });
});

Deno.test("parseRegistries() takes files as k3s users have them", () => {
  const read = (text: string) => parseRegistries(text, "/r");
  assertEquals(read('mirrors:\n  "*":\n'), { mirrors: { "*": {} } });
  assertEquals(read("mirrors:\n  docker.io:\nconfigs:\n  # a:\n"), {
    mirrors: { "docker.io": {} },
  });
  assertEquals(read("configs: {a: {tls: {insecure_skip_verify: yes}}}"), {
    configs: { a: { tls: { insecure_skip_verify: true } } },
  });
  assertEquals(read("configs: {a: {auth: , tls: {ca_file: }}}"), { configs: { a: { tls: {} } } });
  const mirror = "{endpoint: [https://m.example/v2/x], override_path: true}";
  assertEquals(read(`mirrors: {docker.io: ${mirror}}`), {
    mirrors: { "docker.io": { endpoint: ["https://m.example/v2/x"] } },
  });
});

Deno.test("readRegistries() warns of credentials that others can read", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "registries.yaml");
    const span = silentSpan();
    assertEquals(await readRegistries(span, path), undefined);
    await Deno.writeTextFile(path, FILE, { mode: 0o600 });
    await readRegistries(span, path);
    assertEquals(span.events.filter(({ kind }) => kind === "warn"), []);
    await Deno.chmod(path, 0o644);
    await readRegistries(span, path);
    assertStringIncludes(
      span.events.find(({ kind }) => kind === "warn")?.message ?? "",
      `chmod 600 ${path}`,
    );
    await Deno.remove(path);
    await Deno.mkdir(path);
    const error = await assertRejects(() => readRegistries(span, path), GatewayError);
    assertEquals(error.code, "permission");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
