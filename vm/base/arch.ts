/**
 * Processor architectures, in the words of Debian, Go and container images.
 * It must not know what is built or run for one.
 *
 * @module
 */

/** A processor that guests are built for. */
export type Arch = "amd64" | "arm64";

/** Every {@linkcode Arch}. */
export const ARCHES: readonly Arch[] = ["amd64", "arm64"];

/** What the kernel calls it: `uname -m` prints it, and QEMU's programs are named by it. */
export const UNAME_MACHINE: Readonly<Record<Arch, "x86_64" | "aarch64">> = {
  amd64: "x86_64",
  arm64: "aarch64",
};

/**
 * The processor of a guest with this config; this host's without one. Records of before there was a choice name none.
 */
export function guestArch(config?: { readonly arch?: Arch }): Arch {
  return config ? config.arch ?? "amd64" : hostArch();
}

/** A machine that gateway runs on. */
export interface HostPlatform {
  readonly os: "linux" | "darwin";
  readonly arch: Arch;
}

/** The one that this runs on. */
export function thisHost(): HostPlatform {
  return { os: Deno.build.os === "darwin" ? "darwin" : "linux", arch: hostArch() };
}

/** This host's. */
export function hostArch(): Arch {
  return Deno.build.arch === "aarch64" ? "arm64" : "amd64";
}
