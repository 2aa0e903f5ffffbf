/**
 * The Go modules' own tests: what a guest can reach through gvproxy, the agent on its ports, the demo service's
 * certificates.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { goEnv } from "../vm/go_build.ts";
import { cacheDir } from "../vm/layout.ts";
import { run, which } from "../vm/process.ts";

for (
  const module of ["net/gvproxy", "rootfs/agent", "rootfs/demo", "rootfs/helmjob", "rootfs/ocipull"]
) {
  Deno.test({
    name: `go vet and go test pass in ${module} (skipped without go)`,
    ignore: which("go") === undefined,
    fn: async () => {
      const options = {
        cwd: fromFileUrl(new URL(`../${module}`, import.meta.url)),
        env: goEnv(join(cacheDir(), "build")),
        timeoutMs: 10 * 60_000,
        niceness: 10,
      };
      await run("go", { ...options, args: ["vet", "./..."] });
      const { code, stdout } = await run("go", {
        ...options,
        args: ["test", "./..."],
        check: false,
      });
      assertEquals(code, 0, stdout);
    },
  });
}
