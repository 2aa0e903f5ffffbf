import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { fakeKernel } from "../../tests/fakes/kernel.ts";
import { GatewayError } from "../base/error.ts";
import { checkKernelFile } from "./kernel_file.ts";

async function whyNot(bytes: Uint8Array | undefined, format: "elf" | "image-arm64" = "elf") {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "vmlinux");
  try {
    if (bytes) await Deno.writeFile(path, bytes);
    const error = assertThrows(() => checkKernelFile({ path, format, cmdline: "" }), GatewayError);
    assertEquals([error.code, error.what], ["vmm-failed", `Cannot boot the kernel "${path}"`]);
    return error.why;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("checkKernelFile() takes a whole kernel of either kind", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, fakeKernel());
    checkKernelFile({ path, format: "elf", cmdline: "" });
    const image = new Uint8Array(64);
    image.set([0x41, 0x52, 0x4d, 0x64], 56);
    await Deno.writeFile(path, image);
    checkKernelFile({ path, format: "image-arm64", cmdline: "" });
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("checkKernelFile() says what is wrong with a file", async () => {
  const whole = fakeKernel(4096);
  assertEquals(await whyNot(undefined), "it is not there");
  assertEquals(await whyNot(new Uint8Array(0)), "it is not a 64-bit ELF file");
  assertEquals(await whyNot(new Uint8Array(4096).fill(7)), "it is not a 64-bit ELF file");
  assertEquals(
    await whyNot(whole.subarray(0, 1000)),
    "it is cut: 4216 bytes are to be loaded and it has 1000",
  );
  const other = fakeKernel();
  other[18] = 183;
  assertEquals(await whyNot(other), "it is an ELF file for another processor");
  assertEquals(await whyNot(whole, "image-arm64"), "it is not an arm64 Image");
  const image = new Uint8Array(1000);
  image.set([0x41, 0x52, 0x4d, 0x64], 56);
  new DataView(image.buffer).setBigUint64(16, 4216n, true);
  assertEquals(
    await whyNot(image, "image-arm64"),
    "it is cut: it takes 4216 bytes of memory and has 1000",
  );
});
