/**
 * Insists on an error of ours, word by word.
 * It must not accept any other error.
 *
 * @module
 */
import { assertEquals, assertInstanceOf } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";

/** Calls the function and compares what it throws. */
export async function assertGatewayError(
  fn: () => Promise<unknown>,
  expected: {
    readonly code: string;
    readonly what: string;
    readonly why: string;
    readonly fix: string;
  },
): Promise<void> {
  const error = await fn().then(() => undefined, (error) => error);
  assertInstanceOf(error, GatewayError);
  assertEquals(error.toJSON(), expected as never);
}
