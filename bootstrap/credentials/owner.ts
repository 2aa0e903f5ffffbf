/**
 * What an instance is called outside of gateway: its kubeconfig context and its gateway in OpenShell's client.
 * It must not know where those live.
 *
 * @module
 */

/** Name of the instance that a command without `--name` means. */
const DEFAULT_INSTANCE = "default";

/**
 * The instance's name in other programs' files: `gateway` for the instance `default`, else `gateway-NAME`.
 * Two instances never share one.
 */
export function publicName(instance: string): string {
  return instance === DEFAULT_INSTANCE ? "gateway" : `gateway-${instance}`;
}

/** Who wrote a file outside of gateway's folders; kept in it so that only its writer removes it. */
export interface Owner {
  /** Instance name. */
  readonly instance: string;
  /** The instance's folder: two data folders can each have a `default`. */
  readonly instanceDir: string;
  /** Its name in other programs' files where {@linkcode publicName} is not it: a deployment's. */
  readonly calledAs?: string;
}

/** The owner's name in other programs' files. */
export function ownerName({ instance, calledAs }: Owner): string {
  return calledAs ?? publicName(instance);
}

/** True when both name the same instance of the same data folder. */
export function isSameOwner(a: Owner, b: Owner): boolean {
  return a.instance === b.instance && a.instanceDir === b.instanceDir;
}
