/**
 * The host's end of gw.stdio in a process of its own: what `--exec` does with the port of its guest. Its argument is the
 * socket.
 *
 * @module
 */
import { connectUnix } from "../../vm/base/lines.ts";
import { StdioPort } from "../../vm/machine/stdio_port.ts";

const conn = (await connectUnix(Deno.args[0]!))!;
const nowhere = { write: (data: Uint8Array) => Promise.resolve(data.length) };
// As a terminal on which nobody types.
const stdin = new ReadableStream<Uint8Array>();
Deno.exit(await new StdioPort(conn).run({ stdin, stdout: nowhere, stderr: nowhere }));
