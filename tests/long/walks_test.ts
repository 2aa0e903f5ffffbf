/**
 * The walks through a whole cluster that tests/vm/cluster_test.ts leaves out.
 *
 * @module
 */
import { testWalk } from "../vm/walk.ts";

testWalk({ kind: "cold", from: "one file" });
testWalk({ kind: "restored", from: "its sources" });
