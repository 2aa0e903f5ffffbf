/**
 * The ways between this host's network and a guest, as records keep them.
 *
 * @module
 */
import * as v from "valibot";

/** A host port that leads to a guest port. */
export interface PortForward {
  /** Host address to listen on, without brackets. */
  readonly address: string;
  /** 1 to 65535. */
  readonly hostPort: number;
  /** 1 to 65535. */
  readonly guestPort: number;
}

/** A TCP port of this host's loopback that the guest may reach, on an address of its own. */
export interface HostService {
  /** 1 to 65535. */
  readonly hostPort: number;
  /** 1 to 65535. */
  readonly guestPort: number;
}

/** What a guest reaches through this host: public addresses, everything that is not always closed, or nothing. */
export type EgressMode = "internet" | "all" | "none";

/** Every value of `--egress`, the default first. */
export const EGRESS_MODES = ["internet", "all", "none"] as const satisfies readonly EgressMode[];

/** Addresses that a guest reaches whatever its mode is. */
export interface AllowedNet {
  /** An IPv4 prefix such as "10.0.0.0/8". */
  readonly net: string;
  /** The only port of TCP and UDP; null for all of it, pings too. */
  readonly port: number | null;
}

/** An allowed network in a record. */
export const Allowed: v.GenericSchema<unknown, AllowedNet> = v.object({
  net: v.string(),
  port: v.nullable(v.number()),
});

/** A forward in a record. */
export const Forward: v.GenericSchema<unknown, PortForward> = v.object({
  address: v.string(),
  hostPort: v.number(),
  guestPort: v.number(),
});

/** A host service in a record. */
export const Service: v.GenericSchema<unknown, HostService> = v.object({
  hostPort: v.number(),
  guestPort: v.number(),
});
