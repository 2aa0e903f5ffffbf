/**
 * The walks through a whole cluster: each way to start, each way to run `gateway` and each built-in payload is in one of
 * them. tests/long/walks_test.ts has the combinations that are left.
 *
 * @module
 */
import { testWalk } from "./walk.ts";

testWalk({ kind: "cold", from: "its sources", payload: "demo" });
testWalk({ kind: "restored", from: "its sources", payload: "demo" });
testWalk({ kind: "restored", from: "one file", payload: "openshell" });
