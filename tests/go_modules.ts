/**
 * The environment in which the Go modules are compiled for tests: the product's caches, so that nothing is compiled twice.
 *
 * @module
 */
import { join } from "@std/path";
import { cacheDir } from "../vm/base/layout.ts";
import { run } from "../vm/base/process.ts";
import { goEnv } from "../vm/store/go_build.ts";

/** Those that are built with kubenode's experiments, so that Kubernetes' packages are compiled once. */
const LIKE_KUBENODE = ["rootfs/kubenode", "tests/fakes/openshell/standin"];

/** The environment for `go` in a module, named from the top. */
export async function goEnvironment(module: string): Promise<Record<string, string>> {
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
