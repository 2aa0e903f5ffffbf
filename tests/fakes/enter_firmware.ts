/**
 * Opens a real libkrun, with a firmware's path or without, and enters a VM that has no kernel of its own.
 *
 * @module
 */
import { KrunContext } from "../../ffi/krun.ts";
import { KrunLibrary } from "../../ffi/library.ts";

const [libraryPath, firmwarePath] = Deno.args;
const library = KrunLibrary.open(libraryPath!, firmwarePath);
const krun: KrunContext = KrunContext.create(library);
krun.setVmConfig(1, 256);
krun.startEnter();
