/**
 * Each fuzz target and property for minutes. Go's targets resume from what this machine found before.
 *
 * @module
 */
import { testGoTargets } from "../go_fuzz.ts";
import { testLayerReader } from "../layers.ts";
import { FILE_PROPERTIES } from "../properties/files.ts";
import { testProperties } from "../properties/properties.ts";
import { STREAM_PROPERTIES } from "../properties/streams.ts";

testGoTargets(120);
testLayerReader(500_000, crypto.getRandomValues(new Uint32Array(1))[0]!);
testProperties(60, [...STREAM_PROPERTIES, ...FILE_PROPERTIES]);
