/**
 * The walks through a whole cluster that tests/vm/cluster_test.ts leaves out.
 *
 * @module
 */
import { testWalk } from "../vm/walk.ts";

testWalk({ kind: "restored", from: "one file", payload: "demo" });
testWalk({ kind: "restored", from: "its sources", payload: "openshell" });
