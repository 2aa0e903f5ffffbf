/**
 * The part of QEMU that answers on the control socket: greets, takes capabilities, ends on `quit`.
 * It must not import the project, since it stands for a foreign program.
 *
 * @module
 */
const chardev = Deno.args.find((word) => word.startsWith("socket,id=qmp,"))!;
const path = /path=([^,]+)/.exec(chardev)![1]!;
const listener = Deno.listen({ transport: "unix", path });
const conn = await listener.accept();
const say = (value: unknown) =>
  conn.write(new TextEncoder().encode(JSON.stringify(value) + "\r\n"));
await say({ QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 } }, capabilities: [] } });
let text = "";
for await (const chunk of conn.readable.pipeThrough(new TextDecoderStream())) {
  text += chunk;
  for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
    const { execute, id } = JSON.parse(text.slice(0, end));
    text = text.slice(end + 1);
    await say({ return: {}, id });
    if (execute === "quit") Deno.exit(0);
  }
}
