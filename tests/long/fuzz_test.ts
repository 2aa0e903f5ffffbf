/**
 * Each fuzz target for minutes. Go's targets resume from what this machine found before.
 *
 * @module
 */
import { testGoTargets } from "../go_fuzz.ts";
import { testLayerReader } from "../layers.ts";

testGoTargets(120);
testLayerReader(500_000, crypto.getRandomValues(new Uint32Array(1))[0]);
