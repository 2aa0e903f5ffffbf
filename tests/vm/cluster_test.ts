/**
 * The walks through a whole cluster: each way to start and each way to run `gateway` is in one of them.
 * tests/long/walks_test.ts has the combinations that are left, openshell_test.ts the other built-in payload.
 *
 * @module
 */
import { testWalk } from "./walk.ts";

testWalk({ kind: "cold", from: "its sources" });
testWalk({ kind: "restored", from: "one file" });
