/**
 * Cleaning a cluster's database on a real SQLite file. Here and not beside its code: VACUUM attaches a file, which the
 * runtime allows only with every permission.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { cleanKine } from "../bootstrap/saved/kine_clean.ts";

/** kine's own table, as its SQLite driver makes it. */
const SCHEMA =
  `CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER, created INTEGER,
  deleted INTEGER, create_revision INTEGER, prev_revision INTEGER, lease INTEGER, value BLOB, old_value BLOB)`;

async function withKine(
  rows: readonly (readonly [name: string, deleted: number, value: string])[],
  fn: (path: string) => void | Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const path = `${dir}/state.db`;
    const db = new DatabaseSync(path);
    db.exec("PRAGMA journal_mode = WAL");
    db.exec(SCHEMA);
    const insert = db.prepare(
      "INSERT INTO kine(name, created, deleted, create_revision, prev_revision, lease, value, old_value) VALUES (?, 1, ?, 0, 0, 0, ?, ?)",
    );
    for (const [name, deleted, value] of rows) insert.run(name, deleted, value, `old of ${value}`);
    db.close();
    await fn(path);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function names(path: string): unknown[] {
  const db = new DatabaseSync(path, { readOnly: true });
  const rows = db.prepare("SELECT id, name, prev_revision AS p FROM kine ORDER BY id").all();
  db.close();
  return rows.map((row) => [row.id, row.name, row.p]);
}

Deno.test("cleanKine() keeps the newest of what stays under its id, and tells that history is gone", () =>
  withKine([
    ["compact_rev_key", 0, ""],
    ["/registry/namespaces/default", 0, "one"],
    ["/registry/namespaces/default", 0, "two"],
    ["/registry/configmaps/default/gone", 1, "x"],
    ["/registry/configmaps/kube-system/stays", 0, "x"],
  ], (path) => {
    assertEquals(cleanKine(path), { rowsBefore: 5, rowsAfter: 3 });
    assertEquals(names(path), [
      [1, "compact_rev_key", 5],
      [3, "/registry/namespaces/default", 0],
      [5, "/registry/configmaps/kube-system/stays", 0],
    ]);
  }));

Deno.test("cleanKine() leaves no byte of a secret, a pod or an authority in the file, old or new", () =>
  withKine([
    ["/registry/secrets/openshell/openshell-server-tls", 0, "PRIVATE-1"],
    ["/registry/secrets/openshell/openshell-server-tls", 0, "PRIVATE-2"],
    ["/registry/pods/default/p", 0, "PRIVATE-3"],
    ["/registry/configmaps/default/kube-root-ca.crt", 0, "PRIVATE-4"],
    ["/registry/configmaps/kube-system/extension-apiserver-authentication", 0, "PRIVATE-5"],
    ["/bootstrap/1234", 0, "PRIVATE-6"],
    ["/registry/namespaces/default", 0, "stays"],
  ], async (path) => {
    cleanKine(path);
    const text = new TextDecoder("latin1").decode(await Deno.readFile(path));
    assertEquals([text.includes("PRIVATE"), text.includes("old of"), text.includes("stays")], [
      false,
      false,
      true,
    ]);
    assertEquals([...Deno.readDirSync(path.slice(0, path.lastIndexOf("/")))].map((e) => e.name), [
      "state.db",
    ]);
  }));

Deno.test("cleanKine() refuses a file that is no such database", async () => {
  const path = await Deno.makeTempFile();
  await Deno.writeTextFile(path, "x".repeat(4096));
  assertThrows(() => cleanKine(path));
  await Deno.remove(path);
});
