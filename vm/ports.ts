/**
 * The two ways between ports of this host and of a guest, as records keep them.
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
