/**
 * Names that both sides of the nested machine know.
 *
 * @module
 */

/** The one case beside the suite's. */
export const REFUSED_CASE = "a library that lacks something is refused by name";
