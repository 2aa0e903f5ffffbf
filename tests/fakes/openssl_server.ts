/**
 * A TLS server that insists on a client certificate: openssl's, since Deno's own cannot ask for one.
 *
 * @module
 */
import type { Pki } from "../../bootstrap/credentials/pki.ts";
import { type ChildProcess, spawnChild } from "../../vm/base/process.ts";

/** Starts one on a loopback port; it answers GET with a status page and lets in the clients of one authority. */
export function startOpensslServer(
  port: number,
  { server }: Pick<Pki, "server">,
  { caPath }: Pick<Pki, "caPath">,
): ChildProcess {
  return spawnChild("openssl", {
    args: [
      ...["s_server", "-accept", `127.0.0.1:${port}`, "-www", "-quiet"],
      ...["-cert", server.certPath, "-key", server.keyPath],
      ...["-CAfile", caPath, "-Verify", "1", "-verify_return_error"],
    ],
  });
}
