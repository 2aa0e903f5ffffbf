/**
 * What host and guest agree on: paths inside the guest, and the variables that init reads from the payload. The guest's
 * side is in guest/, agent/ and kubenode/; contract_test.ts compares the two.
 *
 * @module
 */

/** The program that the kernel starts. */
export const INIT = "/sbin/gateway-init";

/** The folder of our scripts and programs. */
export const GUEST_LIB = "/usr/lib/gateway";
/** The program that answers on the control port and runs the checks of `gateway verify`. */
export const GUEST_AGENT = `${GUEST_LIB}/agent`;
/** The program that writes Secrets into the volumes of running pods; an older root image does not have it. */
export const PLACE_SECRETS = `${GUEST_LIB}/place-secrets`;

const PAYLOAD_DIR = "/run/payload";
/** Where init unpacks the payload's `registries/`. */
export const REGISTRIES_DIR = `${PAYLOAD_DIR}/registries`;
/** Where init unpacks the payload's `authorities/`. */
export const AUTHORITIES_DIR = `${PAYLOAD_DIR}/authorities`;

/** While this file exists, init does not start a cluster that ended. */
export const HOLD = "/run/gateway/hold";

/** The cluster's folder of settings on the state disk. */
export const CLUSTER_SETTINGS = "/etc/rancher";
/** The administrator's kubeconfig. */
export const KUBECONFIG = `${CLUSTER_SETTINGS}/k3s/k3s.yaml`;
/** The cluster's own log. */
export const CLUSTER_LOG = "/var/log/k3s.log";
/** Exists where the cluster can get its memory ready for clones: kubenode can, k3s cannot. */
export const SETTLE_SOCKET = "/run/k3s/settle.sock";

const DATA_DIR = "/var/lib/rancher/k3s";
/** The data of the cluster's servers: keys, tokens, database. */
export const SERVER_DIR = `${DATA_DIR}/server`;
/** The data of the cluster's node: containerd, kubelet's keys. */
export const AGENT_DIR = `${DATA_DIR}/agent`;
/** The cluster applies the files of this folder. */
export const MANIFESTS_DIR = `${SERVER_DIR}/manifests`;
/** The cluster's database, of SQLite. */
export const DATABASE = `${SERVER_DIR}/db/state.db`;

/** What a boot is, as its host describes it to init. */
export interface GuestSettings {
  readonly mode: "cluster" | "exec";
  /** The instance's name, or the id of a VM without an instance. */
  readonly name: string;
  readonly hostname: string;
  readonly net: "gvproxy" | "tsi" | "none";
  /** Addresses of name servers with a space between them; those of the DHCP lease when absent. */
  readonly dns?: string;
}

/** The variables of the payload's env file. The guest's clock starts at the time of this call, or later. */
export function guestEnv(
  { mode, name, hostname, net, dns }: GuestSettings,
): Record<string, string> {
  return {
    GW_MODE: mode,
    GW_NAME: name,
    GW_HOSTNAME: hostname,
    GW_NET: net,
    ...(dns !== undefined && { GW_DNS: dns }),
    ...(mode === "cluster" && { GW_K3S_ARGS: "" }),
    GW_CLOCK: (Date.now() / 1000).toFixed(3),
  };
}
