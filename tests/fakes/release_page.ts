/**
 * A release page of the public network as this host's processes see it: an HTTP proxy that leads one name to a server on
 * loopback, with a certificate for that name by an authority of the test's own.
 * It must not pass anything on to the network: every other name is refused.
 *
 * @module
 */
import { join } from "@std/path";
import { generateKey, issueCertificate } from "../../bootstrap/credentials/x509.ts";

const DAY_MS = 24 * 60 * 60_000;

/** What an address of the page answers. */
export type Answer = (path: string) => Response;

/** A running page. */
export class ReleasePage implements AsyncDisposable {
  /** Names that somebody asked the proxy for. */
  readonly asked: (string | undefined)[] = [];

  readonly #proxy: Deno.TcpListener;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  private constructor(
    private readonly name: string,
    /** The authority's certificate, PEM, as SSL_CERT_FILE takes it. */
    readonly caPath: string,
    pair: { readonly cert: string; readonly key: string },
    answer: Answer,
  ) {
    this.#server = Deno.serve(
      { ...pair, hostname: "127.0.0.1", port: 0, onListen() {} },
      (request) => answer(new URL(request.url).pathname),
    );
    this.#proxy = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    void this.#serve();
  }

  /** Starts one for a host's name; the authority's certificate is written into the folder. */
  static async start(dir: string, name: string, answer: Answer): Promise<ReleasePage> {
    const [authority, leaf] = await Promise.all([generateKey(), generateKey()]);
    const times = {
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + DAY_MS),
    };
    const own = { privateKey: authority.privateKey, publicKeyDer: authority.publicKeyDer };
    const ca = await issueCertificate({
      ...{ role: "ca", commonName: "release page", publicKeyDer: authority.publicKeyDer },
      ...{ issuer: own, ...times },
    });
    const cert = await issueCertificate({
      ...{ role: "server", commonName: name, publicKeyDer: leaf.publicKeyDer },
      ...{ issuer: { ...own, certificatePem: ca }, ...times, dnsNames: [name] },
    });
    const caPath = join(dir, "release-page.pem");
    await Deno.writeTextFile(caPath, ca);
    return new ReleasePage(name, caPath, { cert, key: leaf.privateKeyPem }, answer);
  }

  /** The environment of a process that sees it. */
  get env(): Record<string, string> {
    return { HTTPS_PROXY: `http://127.0.0.1:${this.#proxy.addr.port}`, SSL_CERT_FILE: this.caPath };
  }

  async #serve(): Promise<void> {
    for await (const near of this.#proxy) void this.#pass(near).catch(() => {});
  }

  async #pass(near: Deno.TcpConn): Promise<void> {
    let head = "";
    const buffer = new Uint8Array(4096);
    while (!head.includes("\r\n\r\n")) {
      const read = await near.read(buffer);
      if (read === null) return near.close();
      head += new TextDecoder().decode(buffer.subarray(0, read));
    }
    const [, host] = /^CONNECT ([^\s:]+):443 /.exec(head) ?? [];
    this.asked.push(host);
    const say = (line: string) => near.write(new TextEncoder().encode(`HTTP/1.1 ${line}\r\n\r\n`));
    if (host !== this.name) {
      await say("502 Bad Gateway");
      return near.close();
    }
    const far = await Deno.connect({ hostname: "127.0.0.1", port: this.#server.addr.port });
    await say("200 OK");
    await Promise.allSettled([
      near.readable.pipeTo(far.writable),
      far.readable.pipeTo(near.writable),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#proxy.close();
    await this.#server.shutdown();
  }
}
