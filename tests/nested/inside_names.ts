/**
 * Names that both sides of the nested machine know.
 *
 * @module
 */

/** Run where there is a stock libkrunfw. */
export const TSI_CASE =
  "gateway --exec --net tsi reaches this machine's network, on the stock libkrunfw's kernel";

/** What KrunContext offers and the product's VMs do not use. */
export const CONTEXT_CASE = "folders by virtio-fs and vsock ports in both directions";

/** The libraries that are refused. */
export const REFUSED_CASE = "a library that lacks something is refused by name";

/** As TSI_CASE. */
export const INIT_CASE =
  "libkrunfw's own init: a folder as the root, limits, environment, working folder";
