/**
 * Each fuzz target for minutes. Go's targets resume from what this machine found before.
 *
 * @module
 */
import { testGoTargets } from "../go_fuzz.ts";

testGoTargets(120);
