/**
 * This room has what rootfs/ pins: the typed lock.json, and the recipes of the guest's Go programs. Nothing is packed
 * into an image here. Read programs.ts next.
 *
 * The typed view of lock.json: the suite, packages, image names and the k3s release that this room pins.
 * Versions of Go code are pinned by the go.mod and go.sum of each program. It must not hold a value of its own.
 *
 * @module
 */
import type { Arch } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import lock from "../lock.json" with { type: "json" };

/** What one suite needs beyond the common packages. */
export interface SuitePin {
  /** Keyring file that verifies the suite. */
  readonly keyring: string;
  /** Debian package that brings the keyring. */
  readonly keyringPackage: string;
  /** Archive components, separated by commas. */
  readonly components: string;
  /** Packages of this suite only. */
  readonly packages: readonly string[];
}

/** One k3s release; a null digest means that it was never verified, and so it is refused. */
export interface K3sPin {
  readonly version: string;
  readonly url: string;
  readonly sha256: string | null;
}

const suites: Readonly<Record<string, SuitePin>> = lock.debian.suites;

/** The suite of the root image unless the user names another. */
export const defaultSuite: string = lock.debian.suite;

/** Unix seconds that stand for every time stamp in what this room builds. */
export const sourceDateEpoch: number = lock.sourceDateEpoch;

/** Names and tags of our container images. */
export const imageNames = lock.images;

/**
 * The pin of a suite.
 *
 * @throws GatewayError `usage` for a suite that was never tried.
 */
export function suitePin(suite: string): SuitePin {
  const pin = Object.hasOwn(suites, suite) ? suites[suite] : undefined;
  if (pin) return pin;
  throw new GatewayError({
    code: "usage",
    what: `Cannot build a root image of the suite "${suite}"`,
    why: `the suites known here are ${Object.keys(suites).join(", ")}`,
    fix: `name one of them, or add "${suite}" to rootfs/lock.json`,
  });
}

/** Every package that the root image asks for, sorted; dependencies come on their own. */
export function suitePackages(suite: string): readonly string[] {
  return [...lock.debian.packages, ...suitePin(suite).packages].sort();
}

/** The k3s release of an architecture. */
export function k3sPin(arch: Arch): K3sPin {
  const { version, url } = lock.k3s;
  const { file, sha256 } = lock.k3s[arch];
  return {
    version,
    url: url.replace("{version}", encodeURIComponent(version)).replace("{file}", file),
    sha256,
  };
}
