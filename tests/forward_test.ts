/**
 * Who holds a port, read from /proc: Deno lets only a program with every permission look there.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { portHolder } from "../net/forward.ts";

Deno.test({
  name: "portHolder() finds this process when it listens",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    assertEquals((await portHolder(port))?.pid, Deno.pid);
    assertEquals((await portHolder(port, "0.0.0.0"))?.pid, Deno.pid);
    assertEquals(await portHolder(port, "127.0.0.2"), undefined);
  },
});
