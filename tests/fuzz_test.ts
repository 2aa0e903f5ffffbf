/**
 * Each fuzz target for a moment; tests/long/fuzz_test.ts runs them for minutes.
 *
 * @module
 */
import { testGoTargets } from "./go_fuzz.ts";

testGoTargets(2);
