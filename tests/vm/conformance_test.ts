/**
 * The conformance suite on QEMU; tests/nested runs the same one on libkrun.
 *
 * @module
 */
import { hostArch } from "../../vm/base/arch.ts";
import { conformanceOnQemu } from "../conformance/qemu.ts";

Deno.test("conformance on QEMU", (t) => conformanceOnQemu(t, hostArch()));
