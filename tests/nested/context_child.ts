/**
 * A VM that the driver does not make: folders shared by virtio-fs and vsock ports, through the same KrunContext. Its one
 * word is a folder with `vmlinux`, `initrd`, `libkrun.so` and the two folders to share.
 * It ends with the guest, as libkrun wants it.
 *
 * @module
 */
import { KrunContext } from "../../ffi/krun.ts";
import { KrunLibrary } from "../../ffi/library.ts";

const [library, kernel, dir] = Deno.args;
const krun: KrunContext = KrunContext.create(KrunLibrary.open(library!));
krun.setVmConfig(1, 256);
krun.setKernel({
  path: kernel!,
  format: "elf",
  initramfs: `${dir}/initrd`,
  cmdline: "console=hvc0 panic=-1 reboot=t tsc=reliable quiet",
});
krun.setConsoleOutput(`${dir}/console`);
krun.disableImplicitVsock();
krun.addVsock();
krun.addVsockPort(5000, `${dir}/out.sock`, { listen: false });
krun.addVsockPort(5001, `${dir}/in.sock`, { listen: true });
krun.addVirtiofs("shared", `${dir}/shared`, { readOnly: false });
krun.addVirtiofs("fixed", `${dir}/fixed`, { readOnly: true });
krun.startEnter();
