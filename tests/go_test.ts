/**
 * The Go modules' own tests: what a guest can reach through gvproxy, the agent on its ports, the demo service's
 * certificates, what kubenode adds to Kubernetes, and the stand-ins for OpenShell's programs.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { goEnv } from "../vm/go_build.ts";
import { cacheDir } from "../vm/layout.ts";
import { run, which } from "../vm/process.ts";

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

/** Those that are built with kubenode's experiments, so that Kubernetes' packages are compiled once. */
const LIKE_KUBENODE = ["rootfs/kubenode", "tests/fakes/openshell/standin"];

async function environment(module: string): Promise<Record<string, string>> {
  const env = goEnv(join(cacheDir(), "build"));
  if (!LIKE_KUBENODE.includes(module)) return env;
  const experimental = { ...env, GOEXPERIMENT: "nogreenteagc" };
  // A toolchain that does not know the experiment builds without.
  const { code } = await run("go", {
    args: ["env", "GOEXPERIMENT"],
    env: experimental,
    check: false,
  });
  return code === 0 ? experimental : env;
}

for (const [module, packages] of Object.entries(MODULES)) {
  Deno.test({
    name: `go vet and go test pass in ${module} (skipped without go)`,
    ignore: which("go") === undefined,
    fn: async () => {
      const options = {
        cwd: fromFileUrl(new URL(`../${module}`, import.meta.url)),
        env: await environment(module),
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
