import { assertEquals } from "@std/assert";
import { goEnv } from "./go_build.ts";

Deno.test("goEnv() is static, reproducible and keeps to the store's caches", () => {
  assertEquals(goEnv("/c/build"), {
    CGO_ENABLED: "0",
    GOFLAGS: "-trimpath -mod=readonly",
    GOTOOLCHAIN: "local",
    GOWORK: "off",
    GOCACHE: "/c/build/go-build",
    GOMODCACHE: "/c/build/go-mod",
  });
});
