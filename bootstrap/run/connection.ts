/**
 * The ssh connection that all commands of an instance share: opened by one command at a time.
 * A failure is left to the command that needs the connection; ssh reports it better.
 *
 * @module
 */
import { join } from "@std/path";
import { controlPath, sshConfigPath } from "../../net/ssh.ts";
import { ownLock } from "../../vm/base/file_lock.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { connectUnix } from "../../vm/base/lines.ts";
import { spawnChild } from "../../vm/base/process.ts";
import { within } from "../../vm/base/wait.ts";
import { requireRunning } from "../../vm/instance/instance.ts";

/** Longer than ssh's own ConnectTimeout. */
const OPEN_TIMEOUT_MS = 40_000;

/**
 * Opens the shared connection unless it is open. Commands that start together would each try to open it, and ssh prints
 * "ControlSocket … already exists" for all but one of them.
 */
async function shareConnection(name: string, paths: InstancePaths): Promise<void> {
  const socket = controlPath(paths.sshDir);
  if (socket === undefined || await answers(socket)) return;
  const path = join(paths.runtimeDir, "ssh.lock");
  const lock = await Deno.open(path, { create: true, write: true, mode: 0o600 })
    .catch(() => undefined);
  if (lock === undefined) return;
  using _open = ownLock(lock);
  const locked = await within(lock.lock(true).then(() => true), OPEN_TIMEOUT_MS);
  if (!locked || await answers(socket)) return;
  // It goes to the background once it is open, and would keep a pipe of ours open from there.
  await using ssh = spawnChild("ssh", { args: ["-F", sshConfigPath(paths.sshDir), "-fN", name] });
  await within(ssh.exited, OPEN_TIMEOUT_MS);
}

/**
 * A running instance that ssh and scp reach by the configuration, over the shared connection.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`.
 */
export async function connectInstance(
  name: string,
): Promise<{ readonly paths: InstancePaths; readonly config: string }> {
  const { paths } = await requireRunning(name);
  await shareConnection(name, paths);
  return { paths, config: sshConfigPath(paths.sshDir) };
}

async function answers(socket: string): Promise<boolean> {
  try {
    using conn = await connectUnix(socket);
    return conn !== undefined;
  } catch {
    return false;
  }
}
