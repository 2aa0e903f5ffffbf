import { assertEquals } from "@std/assert";
import { openText } from "./redact.ts";

const KEY = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgabcdefghijk";
const TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";

/** What a guest may say, and what of it is shown. */
const LINES: readonly (readonly [string, string])[] = [
  ['Error: template: web.yaml:3: function "nope" not defined', ""],
  ["open /var/lib/kubelet/pods/8d7f0c6e-1111-2222-3333-444455556666/volumes/x: no such file", ""],
  [`pulling ghcr.io/example/team/hello@sha256:${"0123456789abcdef".repeat(4)}`, ""],
  ["  indented stays indented", ""],
  [KEY, "(removed)"],
  [`key: ${KEY}== and more`, "key: (removed) and more"],
  ["-----BEGIN PRIVATE KEY----- MIGH", "(removed)"],
  [`Authorization: Bearer ${TOKEN}`, "Authorization: Bearer (removed)"],
  [`got ${TOKEN}, expired`, "got (removed), expired"],
  ["password=hunter22 user=me", "password=(removed) user=me"],
  ['{"token": "abcd1234"}', '{"token": "(removed)"}'],
  ["GET https://me:hunter22@example.test/x", "GET https://me:(removed)@example.test/x"],
  ["\x1b[31mred\x1b[0m\u202e and\tmore", "red and more"],
];

Deno.test("openText() shows what is harmless as it is, and takes secrets out", () => {
  for (const [line, shown] of LINES) assertEquals(openText(line, 200), shown || line);
});

Deno.test("openText() cuts long lines", () => {
  assertEquals(openText("a b ".repeat(100), 10), "a b a b a…");
});
