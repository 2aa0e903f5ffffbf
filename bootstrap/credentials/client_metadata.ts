/**
 * The texts of OpenShell's client files, and the login's token in them. Pure.
 *
 * @module
 */
import * as v from "valibot";

/** A token of the instance's user. */
export interface LoginToken {
  /** Secret. */
  readonly accessToken: string;
  /** ms since 1970. */
  readonly expiresAt: number;
  /** URL of who signed it. */
  readonly issuer: string;
  /** Who it is for. */
  readonly audience: string;
}

const TokenSchema = v.object({
  access_token: v.string(),
  expires_at: v.number(),
  issuer: v.string(),
  client_id: v.string(),
});

/** The text of metadata.json. Pure. */
export function renderMetadata(
  name: string,
  host: string,
  port: number,
  login?: Pick<LoginToken, "issuer" | "audience">,
): string {
  return JSON.stringify(
    {
      name,
      gateway_endpoint: `https://${host}:${port}`,
      is_remote: false,
      gateway_port: port,
      ...(login
        ? {
          auth_mode: "oidc",
          oidc_issuer: login.issuer,
          oidc_client_id: login.audience,
          oidc_audience: login.audience,
        }
        : { auth_mode: "mtls" }),
    },
    null,
    2,
  ) + "\n";
}

/** The text of oidc_token.json. Pure. Secret. */
export function renderToken({ accessToken, expiresAt, issuer, audience }: LoginToken): string {
  return JSON.stringify(
    {
      access_token: accessToken,
      expires_at: Math.floor(expiresAt / 1000),
      issuer,
      client_id: audience,
    },
    null,
    2,
  ) + "\n";
}

/** Reads oidc_token.json; undefined for a text that is none. Secret. */
export function parseToken(text: string): LoginToken | undefined {
  try {
    const { access_token, expires_at, issuer, client_id } = v.parse(TokenSchema, JSON.parse(text));
    return {
      accessToken: access_token,
      expiresAt: expires_at * 1000,
      issuer,
      audience: client_id,
    };
  } catch {
    return undefined;
  }
}
