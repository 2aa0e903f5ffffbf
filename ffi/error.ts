/**
 * The errors of this room, which must not know the product's own error class: vm/ turns them into it.
 *
 * @module
 */
import { errnoName } from "./errno.ts";

/** What went wrong, for those who have to tell it in their own words. */
export type KrunErrorKind =
  | "load"
  | "symbol"
  | "feature"
  | "argument"
  | "call";

/** A failure at the border to C. */
export class KrunError extends Error {
  /** Tells it apart where classes are lost. */
  override readonly name = "KrunError";

  /** Builds the error; `code` is what the function returned, 0 where none did. */
  constructor(
    readonly kind: KrunErrorKind,
    readonly functionName: string,
    message: string,
    readonly code = 0,
  ) {
    super(message);
  }

  /** The error of a C function that returned a negative errno. */
  static ofCall(functionName: string, code: number): KrunError {
    return new KrunError(
      "call",
      functionName,
      `${functionName} returned ${code} (${errnoName(-code)})`,
      code,
    );
  }
}
