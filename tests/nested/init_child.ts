/**
 * A VM by libkrunfw's own kernel and init: a folder of the host as its root, and a program with limits, environment and
 * working folder. Its words: the library, the firmware, and a folder with `root`.
 * It ends with the program's exit code.
 *
 * @module
 */
import { KrunContext } from "../../ffi/krun.ts";
import { KrunLibrary } from "../../ffi/library.ts";

const [library, firmware, dir] = Deno.args;
const krun: KrunContext = KrunContext.create(KrunLibrary.open(library!, firmware));
krun.setVmConfig(1, 512);
krun.disableImplicitVsock();
krun.setRoot(`${dir}/root`);
krun.setConsoleOutput(`${dir}/console`);
krun.setWorkdir("/work");
// 7 is RLIMIT_NOFILE.
krun.setRlimits(["7=1234:1234"]);
krun.setExec("/bin/busybox", ["sh", "/work/tell.sh"], ["WORD=given"]);
krun.startEnter();
