/**
 * Each property for a moment; tests/long/fuzz_test.ts tries them for minutes.
 *
 * @module
 */
import { FILE_PROPERTIES } from "./properties/files.ts";
import { testProperties } from "./properties/properties.ts";
import { STREAM_PROPERTIES } from "./properties/streams.ts";

testProperties(1, [...STREAM_PROPERTIES, ...FILE_PROPERTIES]);
