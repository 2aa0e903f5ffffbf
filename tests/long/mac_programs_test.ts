/**
 * The Go programs that run on the user's own system, compiled for a Mac and for arm64 Linux. Nothing of them is run.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { run, which } from "../../vm/base/process.ts";
import { goEnvironment } from "../go_modules.ts";

const HOST_MODULES = ["net/gvproxy", "rootfs/ocipull"];

for (const module of HOST_MODULES) {
  for (const goos of ["darwin", "linux"]) {
    Deno.test({
      name: `${module} compiles for ${goos} on arm64 (skipped without go)`,
      ignore: which("go") === undefined,
      fn: async () => {
        const options = {
          cwd: fromFileUrl(new URL(`../../${module}`, import.meta.url)),
          env: { ...await goEnvironment(module), GOOS: goos, GOARCH: "arm64", CGO_ENABLED: "0" },
          timeoutMs: 10 * 60_000,
          niceness: 10,
        };
        await run("go", { ...options, args: ["vet", "./..."] });
        await run("go", { ...options, args: ["build", "-o", "/dev/null", "."] });
      },
    });
  }
}
