/**
 * A service on this host's loopback, and who in an instance reaches it: the guest and a pod, by name.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { freePort, type TestHome } from "./harness.ts";

/** Where the service is in the guest's network. */
export const GUEST_PORT = 8000;
/** What it answers. */
export const SAYS = "from the host";

/** A host service of one home's instances. Disposing ends its server on the host. */
export class HostServices implements AsyncDisposable {
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(SAYS),
  );

  constructor(private readonly home: TestHome) {}

  /** Its port on this host. */
  get port(): number {
    return this.#server.addr.port;
  }

  /** As the command line takes it. */
  get spec(): string {
    return `${this.port}:${GUEST_PORT}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  /** What the guest hears from a port of a host. */
  async heard(name = "default", host = "host.openshell.internal", port = GUEST_PORT) {
    const ask = ["busybox", "wget", "-q", "-O", "-", "-T", "20", `http://${host}:${port}/`];
    return await this.home.call(["exec", "--name", name, "--", ...ask], { timeoutMs: 60_000 });
  }

  /** The guest reaches it. */
  async assertOpen(name = "default"): Promise<void> {
    const { code, stdout, stderr } = await this.heard(name);
    assertEquals([code, stdout], [0, SAYS], stderr);
  }

  /** The guest does not reach it. */
  async assertClosed(name = "default"): Promise<void> {
    for (const host of ["host.openshell.internal", "192.168.127.253"]) {
      const { code, stdout } = await this.heard(name, host);
      assert(code !== 0 && stdout === "", `${name} heard "${stdout}" from ${host}`);
    }
  }

  /** Opens it to a running instance: the guest reaches it by name, and no other port. */
  async open(): Promise<void> {
    const { home } = this;
    await this.assertClosed();
    await home.ok(["host-service", "add", this.spec]);
    await this.assertOpen();
    for (
      const [host, port] of [
        ["192.168.127.253", this.port],
        ["192.168.127.254", GUEST_PORT],
        ["192.168.127.254", this.port],
        ["192.168.127.1", GUEST_PORT],
        ["192.168.127.1", this.port],
      ] as const
    ) {
      const { code, stdout } = await this.heard("default", host, port);
      assert(code !== 0 && stdout === "", `the guest heard "${stdout}" from ${host}:${port}`);
    }
    const report = JSON.parse((await home.ok(["status", "--json"])).stdout);
    assertEquals(report.hostServices, [{ hostPort: this.port, guest: "192.168.127.253:8000" }]);
  }

  /** A container of a pod, as YAML, that asks for it by each name, and for another port. */
  get askingContainer(): string {
    const names = "host.openshell.internal host.docker.internal host.gateway.internal";
    const ask = (url: string) => `wget -q -O - -T 20 ${url} 2>/dev/null`;
    return `{name: ask, image: "gateway.local/busybox:1.37", imagePullPolicy: Never, command: [sh, -c, '
      for name in ${names}; do ${ask(`http://$name:${GUEST_PORT}/`)} && echo; done;
      ${ask(`http://host.docker.internal:${this.port}/`)} || echo no other port']}`;
  }

  /** What that container heard, by its log. */
  async assertHeardByPod(pod: string): Promise<void> {
    const { stdout } = await this.home.ok(["kubectl", "--", "logs", pod, "-c", "ask"]);
    assertEquals(stdout, `${SAYS}\n${SAYS}\n${SAYS}\nno other port\n`);
  }

  /** `fork` said that the clones do not reach it; they do not, and the first one does once it is told to. */
  async closedToClones(
    said: string,
    [first, ...others]: readonly [string, ...string[]],
  ): Promise<void> {
    assertStringIncludes(said, `gateway host-service add --name ${first} ${this.spec}`);
    for (const name of [first, ...others]) await this.assertClosed(name);
    await this.home.ok(["host-service", "add", this.spec, "--name", first]);
    await this.assertOpen(first);
    for (const name of others) await this.assertClosed(name);
  }

  /** A service that went away on the host is refused at once, and found again when it is back. */
  async downAndUp(): Promise<void> {
    const { home } = this;
    const port = freePort();
    const spec = `${port}:${GUEST_PORT + 1}`;
    const { stderr } = await home.ok(["host-service", "add", spec]);
    assert(stderr.includes(`nobody listens on port ${port}`), stderr);
    const ask = () => this.heard("default", undefined, GUEST_PORT + 1);
    const refused = await ask();
    assert(refused.code !== 0 && /refused/.test(refused.stderr), refused.stderr);
    await using _late = Deno.serve(
      { hostname: "127.0.0.1", port, onListen: () => {} },
      () => new Response("late"),
    );
    assertEquals((await ask()).stdout, "late");
    await home.ok(["host-service", "remove", spec]);
  }
}
