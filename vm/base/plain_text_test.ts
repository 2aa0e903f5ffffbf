import { assertEquals } from "@std/assert";
import { errorText, GatewayError } from "./error.ts";
import { cleanText, plainBytes, plainText, terminalText } from "./plain_text.ts";

const HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b]0;pwned\x1b\\\x1bcall\x9b2J is\u202e well";

Deno.test("cleanText() takes out whole escape sequences, control and direction characters", () => {
  assertEquals(cleanText(HOSTILE), "all 2J is well");
  assertEquals(cleanText(" a\x1b[31mred\x1b[0m\r\nb\tc\x07 "), "ared b c");
});

Deno.test("plainText() keeps spaces, tabs and line ends", () => {
  assertEquals(plainText(`  a\t b\n${HOSTILE}\r\n`), "  a\t b\nall2J is well\n");
});

Deno.test("terminalText() keeps colours and nothing else that a terminal would act on", () => {
  assertEquals(
    terminalText(`\x1b[1;31mred\x1b[0m ${HOSTILE}\n`),
    "\x1b[1;31mred\x1b[0m all2J is well\n",
  );
  // A colour in the middle of another sequence does not save that one.
  assertEquals(terminalText("\x1b]0;a\x1b[31mb\x07c"), "\x1b[31mbc");
});

Deno.test("plainBytes() takes a piece of a log that begins and ends within something", () => {
  const bytes = new TextEncoder().encode(`ü${HOSTILE}\x1b]52;c;ZXZp`);
  const text = new TextDecoder().decode(plainBytes(bytes.subarray(1)));
  assertEquals(text, "\ufffdall2J is well");
});

Deno.test("errorText() lets no escape sequence of the guest through", () => {
  const error = new GatewayError({
    code: "guest-failed",
    what: `Cannot ${HOSTILE}`,
    why: HOSTILE,
    fix: HOSTILE,
    details: [`  ${HOSTILE}`],
  });
  // deno-lint-ignore no-control-regex -- looking for them is the point
  assertEquals(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/.exec(errorText(error)), null);
});
