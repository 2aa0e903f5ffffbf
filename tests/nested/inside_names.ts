/**
 * Names that both sides of the nested machine know.
 *
 * @module
 */

/** Run where there is a stock libkrunfw. */
export const TSI_CASE =
  "gateway --exec --net tsi reaches this machine's network, on the stock libkrunfw's kernel";

/** The one case beside the suite's. */
export const REFUSED_CASE = "a library that lacks something is refused by name";
