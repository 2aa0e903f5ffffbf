/**
 * The guest as gvproxy's network knows it.
 *
 * @module
 */

/** gvproxy gives this address 192.168.127.2 for ever, which also survives a restore. */
export const GUEST_MAC = "5a:94:ef:e4:0c:ee";

/** The guest's address behind gvproxy. */
export const GUEST_ADDRESS = "192.168.127.2";

/** Where the cluster's API listens in the guest. */
export const GUEST_API_PORT = 6443;
