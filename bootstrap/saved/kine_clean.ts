/**
 * Takes everything out of a cluster's database that belongs to one run or one instance: pods, events, leases, nodes,
 * secrets, and the authority's certificates. What stays is what every new cluster would write again: roles, namespaces,
 * services, deployments.
 * It must not open a database that a server has open.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";

/** Keys of the API's storage that do not go along, as SQLite GLOB patterns. */
const DROPPED_KEYS: readonly string[] = [
  "/registry/pods/*",
  "/registry/events/*",
  "/registry/leases/*",
  "/registry/masterleases/*",
  "/registry/peerserverleases/*",
  "/registry/minions/*",
  "/registry/csinodes/*",
  "/registry/secrets/*",
  "/registry/certificatesigningrequests/*",
  // They name addresses of pods.
  "/registry/endpointslices/*",
  "/registry/services/endpoints/*",
  // They hold the authority's certificate, and controllers write them again.
  "/registry/configmaps/*/kube-root-ca.crt",
  "/registry/configmaps/kube-system/extension-apiserver-authentication",
  "/registry/clustertrustbundles/*",
  // k3s keeps its own keys here.
  "/bootstrap/*",
];

/** What a cleaning did. */
export interface KineCleaning {
  /** Rows before: each is one version of one object. */
  readonly rowsBefore: number;
  readonly rowsAfter: number;
}

/**
 * Cleans the file in place: the newest version of each object that stays, no history, no free pages.
 *
 * @throws Error of SQLite when it is no kine database.
 */
export function cleanKine(path: string): KineCleaning {
  const db = new DatabaseSync(path);
  try {
    const count = () =>
      Number((db.prepare("SELECT count(*) AS n FROM kine").get() as { n: number }).n);
    const rowsBefore = count();
    db.exec("PRAGMA journal_mode = DELETE");
    db.exec("PRAGMA secure_delete = ON");
    db.exec("BEGIN");
    const drop = db.prepare("DELETE FROM kine WHERE name GLOB ?");
    for (const pattern of DROPPED_KEYS) drop.run(pattern);
    db.exec("DELETE FROM kine WHERE id NOT IN (SELECT max(id) FROM kine GROUP BY name)");
    // kine's own row tells up to which revision the history is gone: all of it.
    const own = "name = 'compact_rev_key'";
    db.exec(`DELETE FROM kine WHERE deleted != 0 AND NOT (${own})`);
    db.exec(`UPDATE kine SET prev_revision = (SELECT max(id) FROM kine) WHERE ${own}`);
    db.exec("UPDATE kine SET old_value = NULL");
    db.exec("COMMIT");
    db.exec("VACUUM");
    return { rowsBefore, rowsAfter: count() };
  } finally {
    db.close();
  }
}
