import { assertEquals } from "@std/assert";
import { healthRequest, readHealthStatus, readStatusField } from "./grpc_message.ts";

Deno.test("readHealthStatus() names the status of a framed response", () => {
  const status = (...bytes: number[]) => readHealthStatus(new Uint8Array(bytes));
  assertEquals(status(0, 0, 0, 0, 2, 8, 1), "SERVING");
  assertEquals(status(0, 0, 0, 0, 2, 8, 2), "NOT_SERVING");
  assertEquals(status(0, 0, 0, 0, 2, 8, 9), "status 9");
  assertEquals(status(0, 0, 0, 0, 0), "UNKNOWN");
});

Deno.test("readHealthStatus() does not guess when the response is cut, compressed or something else", () => {
  for (
    const bytes of [[], [0, 0, 0], [0, 0, 0, 0, 2, 8], [1, 0, 0, 0, 2, 8, 1], [
      0,
      0,
      0,
      0,
      2,
      18,
      1,
    ]]
  ) {
    assertEquals(readHealthStatus(new Uint8Array(bytes)), "nothing that can be read");
  }
});

Deno.test("healthRequest() asks for the server as a whole, or for one service of it", () => {
  assertEquals([...healthRequest()], [0, 0, 0, 0, 0]);
  assertEquals([...healthRequest("a.B")], [0, 0, 0, 0, 5, 10, 3, 97, 46, 66]);
});

Deno.test("readStatusField() reads field 1 of a message with other fields, in any order", () => {
  const field = (...message: number[]) =>
    readStatusField(new Uint8Array([0, 0, 0, 0, message.length, ...message]));
  // As OpenShell answers: status 1, version "0.0.0".
  assertEquals(field(8, 1, 18, 5, 48, 46, 48, 46, 48), 1);
  assertEquals(field(18, 1, 48, 8, 3), 3);
  assertEquals(field(25, 0, 0, 0, 0, 0, 0, 0, 0, 37, 0, 0, 0, 0, 8, 2), 2);
  assertEquals(field(8, 0x96, 1), 150);
  // A zero is left out.
  assertEquals(field(18, 1, 48), 0);
  assertEquals(field(), 0);
});

Deno.test("readStatusField() does not guess when field 1 is a text or the message is cut", () => {
  const field = (...message: number[]) =>
    readStatusField(new Uint8Array([0, 0, 0, 0, message.length, ...message]));
  const unreadable = "nothing that can be read";
  assertEquals(field(10, 1, 48), unreadable);
  assertEquals(field(8), unreadable);
  assertEquals(field(18, 9, 48), unreadable);
  assertEquals(field(25, 0, 0), unreadable);
  assertEquals(field(8, 0xff, 0xff, 0xff, 0xff, 0x0f), unreadable);
});
