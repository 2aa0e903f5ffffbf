/**
 * The Go modules' own tests: what a guest can reach through gvproxy, the agent on its ports, the demo service's
 * certificates, what kubenode adds to Kubernetes, and the stand-ins for OpenShell's programs.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { run, which } from "../vm/base/process.ts";
import { goEnvironment } from "./go_modules.ts";

/** The modules, and which of their packages. */
const MODULES = {
  "net/gvproxy": "./...",
  "rootfs/agent": "./...",
  "rootfs/demo": "./...",
  "rootfs/helmjob": "./...",
  "rootfs/ocipull": "./...",
  // The rest of it is Kubernetes put together, which takes minutes to compile and has no tests of ours.
  "rootfs/kubenode": "./internal/...",
  "tests/fakes/openshell/standin": "./...",
};

for (const [module, packages] of Object.entries(MODULES)) {
  Deno.test({
    name: `go vet and go test pass in ${module} (skipped without go)`,
    ignore: which("go") === undefined,
    fn: async () => {
      const options = {
        cwd: fromFileUrl(new URL(`../${module}`, import.meta.url)),
        env: await goEnvironment(module),
        timeoutMs: 10 * 60_000,
        niceness: 10,
      };
      await run("go", { ...options, args: ["vet", packages] });
      const { code, stdout } = await run("go", {
        ...options,
        args: ["test", packages],
        check: false,
      });
      assertEquals(code, 0, stdout);
    },
  });
}
