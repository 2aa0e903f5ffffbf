import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { checkLibraryPlace, findFirmware, findLibraries } from "./find.ts";

async function withFolder(body: (dir: string) => void | Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const uid = Deno.uid();

Deno.test("checkLibraryPlace() takes a file that only its owner can change, through links too", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "libkrun.so.1.19.7");
    await Deno.writeTextFile(path, "");
    await Deno.symlink(path, join(dir, "libkrun.so.1"));
    checkLibraryPlace(path, uid);
    checkLibraryPlace(join(dir, "libkrun.so.1"), uid);
  });
});

Deno.test("checkLibraryPlace() refuses what somebody else could have put there", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "libkrun.so");
    const refuse = (why: string, user: number | null = uid) => {
      const error = assertThrows(() => checkLibraryPlace(path, user), GatewayError);
      assertEquals([error.code, error.why], ["vmm-missing", why]);
    };
    refuse("it is not there");
    await Deno.writeTextFile(path, "");
    await Deno.chmod(path, 0o666);
    refuse(`everybody may write "${path}"`);
    await Deno.chmod(path, 0o644);
    await Deno.chmod(dir, 0o777);
    refuse(`everybody may write "${dir}"`);
    await Deno.chmod(dir, 0o755);
    checkLibraryPlace(path, uid);
    if (uid !== 0) return;
    await Deno.chown(path, 12345, null);
    refuse(`"${path}" belongs to user 12345`);
    checkLibraryPlace(path, 12345);
  });
});

Deno.test("findLibraries() takes our own build after the system's, and insists on a named one", async () => {
  await withFolder(async (dir) => {
    const path = join(dir, "libkrun.so");
    await Deno.writeTextFile(path, "");
    assertEquals(findLibraries({ uid, artifact: path }).at(-1), {
      path,
      source: "gateway build libkrun",
    });
    assertEquals(
      findLibraries({ uid, artifact: join(dir, "gone.so") }).some(({ path }) =>
        path.startsWith(dir)
      ),
      false,
    );
    assertEquals(findLibraries({ uid, variable: path }), [{ path, source: "GATEWAY_LIBKRUN" }]);
    assertThrows(() => findLibraries({ uid, flag: join(dir, "gone.so") }), GatewayError, "gone.so");
  });
});

Deno.test("findFirmware() finds the one beside the library", async () => {
  await withFolder(async (dir) => {
    const name = Deno.build.os === "darwin" ? "libkrunfw.5.dylib" : "libkrunfw.so.5";
    await Deno.writeTextFile(join(dir, name), "");
    assertEquals(findFirmware(join(dir, "libkrun.so")), join(dir, name));
  });
});
