/**
 * The memory layers' reader on some thousand files; tests/long/fuzz_test.ts takes half a million of them.
 *
 * @module
 */
import { testLayerReader } from "./layers.ts";

testLayerReader(10_000, 1);
