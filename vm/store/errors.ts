/**
 * What the artifact store says when it cannot go on.
 * It must not decide when.
 *
 * @module
 */
import { asDiskFull, describeError, GatewayError } from "../base/error.ts";
import type { Recipe } from "./recipe.ts";

type Named = Pick<Recipe, "name" | "label">;

/** A file of an artifact is not what was written. */
export function corrupt(what: { readonly name: string; readonly label?: string }, why: string) {
  return new GatewayError({
    code: "artifact-corrupt",
    what: `Cannot use ${what.label ?? what.name}`,
    why,
    fix: `run \`gateway build ${what.name}\` to make it again`,
  });
}

/** A download has another digest than the pinned one; `what` names it with its version. */
export function wrongDownload(what: string, found: string, pinned: string): GatewayError {
  return new GatewayError({
    code: "artifact-corrupt",
    what: `Cannot use the download of ${what}`,
    why: `its digest is ${found} instead of ${pinned}`,
    fix: "run the command again; if it stays so, the source does not serve what was pinned",
  });
}

/** Nobody who could is here to sign. */
export function noSigningKey(): GatewayError {
  return new GatewayError({
    code: "key-missing",
    what: "Cannot sign",
    why: "there is no signing key here",
    fix: "run `gateway keys make`",
  });
}

/** No trusted key has signed it as it is. */
export function untrusted(recipe: Named, changed: boolean, why: string): GatewayError {
  return new GatewayError({
    code: "signature-invalid",
    what: `Cannot trust ${recipe.label}`,
    why,
    fix: changed
      ? `look who changed it; \`gateway build ${recipe.name}\` makes it again`
      : "check it with `gateway provenance`, then sign it with `gateway keys sign`, or trust its key",
  });
}

/** What would be built could not be signed. */
export function unsignedBuild(recipe: Named): GatewayError {
  return new GatewayError({
    code: "signature-invalid",
    what: `Cannot build ${recipe.label} for a start`,
    why:
      "a trusted key is configured, but this artifact is not built and no trusted signing key is on this machine",
    fix: "run `gateway build all`, check it, then `gateway keys sign`; or bring the signed files",
  });
}

/** Renewed, it would be unsigned where only signed artifacts boot. */
export function unsignedRenewal(recipe: Named): GatewayError {
  return new GatewayError({
    code: "signature-invalid",
    what: `Cannot renew ${recipe.label}`,
    why: "a trusted key is configured, and no trusted signing key is on this machine",
    fix: "renew it where the signing key is, then copy the signed files",
  });
}

/** A build ended with an error; ours and a full disk pass through. */
export function buildFailed(recipe: Named, error: unknown, workDir: string, logPath: string) {
  const cause = asDiskFull(error, workDir);
  if (cause instanceof GatewayError) return cause;
  return new GatewayError({
    code: "build-failed",
    what: `Cannot build ${recipe.label}`,
    why: describeError(error),
    fix: `read ${logPath}, then run \`gateway build ${recipe.name}\` again: it resumes`,
    cause,
  });
}

/** What comes with the program's file did not come out as it went in; ours and a full disk pass through. */
export function unpackFailed(recipe: Named, error: unknown, workDir: string): GatewayError {
  const cause = asDiskFull(error, workDir);
  if (cause instanceof GatewayError) return cause;
  return new GatewayError({
    code: "artifact-corrupt",
    what: `Cannot unpack ${recipe.label}`,
    why: `the file that this program runs from is changed or cut: ${describeError(error)}`,
    fix: "get the file again",
    cause,
  });
}
