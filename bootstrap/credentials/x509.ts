/**
 * X.509 version 3 certificates over P-256: node-forge encodes the ASN.1, WebCrypto makes and uses the
 * keys (node-forge has no ECDSA). Loaded only when something is issued, since node-forge is slow to import.
 * It must not read or write files, nor decide names and lifetimes: pki.ts does.
 *
 * @module
 */
// @ts-types="@types/node-forge"
import forge from "node-forge";
import { isIPv4 } from "node:net";

const { asn1 } = forge;
const { Class, Type } = asn1;

/** WebCrypto's name for the one kind of key used here. */
const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;

const SIGNATURE_ALGORITHM = { name: "ECDSA", hash: "SHA-256" } as const;

const OID = {
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  organization: "2.5.4.10",
  organizationalUnit: "2.5.4.11",
  commonName: "2.5.4.3",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
} as const;

/** First byte of the KeyUsage bit string and its count of unused bits. */
const KEY_USAGE = {
  /** keyCertSign and cRLSign, all a CA key may do. */
  ca: { bits: 0x06, unused: 1 },
  /** digitalSignature, all an ECDSA leaf needs in TLS. */
  leaf: { bits: 0x80, unused: 7 },
} as const;

/** An uncompressed P-256 point, the last bytes of its SubjectPublicKeyInfo. */
const POINT_BYTES = 65;

/** What a certificate is for; decides its key usages and extensions. */
export type CertificateRole = "ca" | "server" | "client";

/** A key pair made on this host. */
export interface KeyMaterial {
  /** Not to be kept longer than signing needs. */
  readonly privateKey: CryptoKey;
  /** DER of the SubjectPublicKeyInfo. */
  readonly publicKeyDer: Uint8Array;
  /** Secret: unencrypted PKCS 8, PEM. */
  readonly privateKeyPem: string;
}

/** Who signs: a CA certificate with its key, or the subject itself when there is no certificate yet. */
export interface Issuer {
  /** The authority's certificate, PEM; none when the subject signs itself. */
  readonly certificatePem?: string;
  /** Signs; never exported. */
  readonly privateKey: CryptoKey;
  /** DER of the issuer's SubjectPublicKeyInfo. */
  readonly publicKeyDer: Uint8Array;
}

/** One certificate to make. */
export interface CertificateRequest {
  /** Decides key usages and extensions. */
  readonly role: CertificateRole;
  /** The subject's name. */
  readonly commonName: string;
  /** The subject's unit; none where it is absent. */
  readonly organizationalUnit?: string;
  /** DER of the subject's public key. */
  readonly publicKeyDer: Uint8Array;
  /** Who signs. */
  readonly issuer: Issuer;
  /** Start of its validity. */
  readonly notBefore: Date;
  /** End of its validity. */
  readonly notAfter: Date;
  /** DNS names of the SubjectAltName, in order. */
  readonly dnsNames?: readonly string[];
  /** IP addresses of the SubjectAltName, in order. */
  readonly ipAddresses?: readonly string[];
}

/** Makes a P-256 key pair with the runtime's native code. */
export async function generateKey(): Promise<KeyMaterial> {
  const pair = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const [privateDer, publicDer] = await Promise.all([
    crypto.subtle.exportKey("pkcs8", pair.privateKey),
    crypto.subtle.exportKey("spki", pair.publicKey),
  ]);
  return {
    privateKey: pair.privateKey,
    publicKeyDer: new Uint8Array(publicDer),
    privateKeyPem: toPem("PRIVATE KEY", new Uint8Array(privateDer)),
  };
}

/** Reads a P-256 private key back for signing. The key given back cannot be exported. */
export function importSigningKey(privateKeyPem: string): Promise<CryptoKey> {
  return crypto.subtle.importKey("pkcs8", fromPem(privateKeyPem), KEY_ALGORITHM, false, ["sign"]);
}

/** Makes and signs one certificate, as PEM. The serial number is 126 random bits. */
export async function issueCertificate(request: CertificateRequest): Promise<string> {
  const subject = distinguishedName(request);
  const issuerPem = request.issuer.certificatePem;
  const body = sequence(
    asn1.create(Class.CONTEXT_SPECIFIC, 0, true, [integer([2])]),
    integer(randomSerial()),
    signatureAlgorithm(),
    issuerPem === undefined ? subject : subjectOf(issuerPem),
    sequence(time(request.notBefore), time(request.notAfter)),
    subject,
    asn1.fromDer(toBinary(request.publicKeyDer)),
    asn1.create(Class.CONTEXT_SPECIFIC, 3, true, [sequence(...await extensions(request))]),
  );
  const signature = await crypto.subtle.sign(
    SIGNATURE_ALGORITHM,
    request.issuer.privateKey,
    fromBinary(asn1.toDer(body).getBytes()),
  );
  const certificate = sequence(
    body,
    signatureAlgorithm(),
    bitString(asn1.toDer(ecdsaSignature(new Uint8Array(signature))).getBytes(), 0),
  );
  return toPem("CERTIFICATE", fromBinary(asn1.toDer(certificate).getBytes()));
}

async function extensions(request: CertificateRequest): Promise<forge.asn1.Asn1[]> {
  const isCa = request.role === "ca";
  const usage = isCa ? KEY_USAGE.ca : KEY_USAGE.leaf;
  const authorityId = await keyIdentifier(request.issuer.publicKeyDer);
  const list = [
    // A CA of ours signs leafs only: path length 0.
    extension(
      OID.basicConstraints,
      true,
      isCa ? sequence(boolean(true), integer([0])) : sequence(),
    ),
    extension(OID.keyUsage, true, bitString(String.fromCharCode(usage.bits), usage.unused)),
    extension(
      OID.subjectKeyIdentifier,
      false,
      octets(await keyIdentifier(request.publicKeyDer)),
    ),
    extension(
      OID.authorityKeyIdentifier,
      false,
      sequence(asn1.create(Class.CONTEXT_SPECIFIC, 0, false, authorityId)),
    ),
  ];
  if (!isCa) {
    const purpose = request.role === "server" ? OID.serverAuth : OID.clientAuth;
    list.push(extension(OID.extendedKeyUsage, false, sequence(objectId(purpose))));
  }
  const names = [
    ...(request.dnsNames ?? []).map((name) => asn1.create(Class.CONTEXT_SPECIFIC, 2, false, name)),
    ...(request.ipAddresses ?? []).map((address) =>
      asn1.create(Class.CONTEXT_SPECIFIC, 7, false, addressBytes(address))
    ),
  ];
  if (names.length > 0) list.push(extension(OID.subjectAltName, false, sequence(...names)));
  return list;
}

function extension(oid: string, critical: boolean, value: forge.asn1.Asn1): forge.asn1.Asn1 {
  const wrapped = octets(asn1.toDer(value).getBytes());
  return critical
    ? sequence(objectId(oid), boolean(true), wrapped)
    : sequence(objectId(oid), wrapped);
}

function distinguishedName(
  { commonName, organizationalUnit }: CertificateRequest,
): forge.asn1.Asn1 {
  const part = (oid: string, text: string) =>
    asn1.create(Class.UNIVERSAL, Type.SET, true, [
      sequence(
        objectId(oid),
        asn1.create(Class.UNIVERSAL, Type.UTF8, false, toBinary(new TextEncoder().encode(text))),
      ),
    ]);
  return sequence(
    part(OID.organization, "gateway"),
    ...(organizationalUnit === undefined ? [] : [part(OID.organizationalUnit, organizationalUnit)]),
    part(OID.commonName, commonName),
  );
}

/** The subject of a certificate as it stands there: an issuer name must match it byte for byte. */
function subjectOf(certificatePem: string): forge.asn1.Asn1 {
  const certificate = asn1.fromDer(toBinary(fromPem(certificatePem)));
  const body = (certificate.value as forge.asn1.Asn1[])[0]!;
  // version, serial, algorithm, issuer, validity, subject
  return (body.value as forge.asn1.Asn1[])[5]!;
}

function signatureAlgorithm(): forge.asn1.Asn1 {
  // RFC 5758: no parameters, not even NULL.
  return sequence(objectId(OID.ecdsaWithSha256));
}

/** WebCrypto gives r and s as 32 bytes each; X.509 wants a SEQUENCE of two INTEGERs. */
function ecdsaSignature(raw: Uint8Array): forge.asn1.Asn1 {
  const half = raw.length / 2;
  return sequence(integer(raw.subarray(0, half)), integer(raw.subarray(half)));
}

/** RFC 7093 method 1: the first 160 bits of SHA-256 over the public key's bits. */
async function keyIdentifier(publicKeyDer: Uint8Array): Promise<string> {
  const point = new Uint8Array(publicKeyDer.subarray(-POINT_BYTES));
  const digest = await crypto.subtle.digest("SHA-256", point);
  return toBinary(new Uint8Array(digest).subarray(0, 20));
}

/** 16 random bytes whose first is 0x40-0x7f: positive, never zero, always of the same length. */
function randomSerial(): Uint8Array {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes;
}

/** RFC 5280: UTCTime up to 2049, GeneralizedTime from 2050 on. */
function time(date: Date): forge.asn1.Asn1 {
  return date.getUTCFullYear() < 2050
    ? asn1.create(Class.UNIVERSAL, Type.UTCTIME, false, asn1.dateToUtcTime(date))
    : asn1.create(Class.UNIVERSAL, Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date));
}

/** A non-negative INTEGER from big-endian bytes, in its shortest form. */
function integer(bytes: Uint8Array | readonly number[]): forge.asn1.Asn1 {
  const digits = [...bytes];
  while (digits.length > 1 && digits[0] === 0) digits.shift();
  if (digits[0]! & 0x80) digits.unshift(0);
  return asn1.create(Class.UNIVERSAL, Type.INTEGER, false, String.fromCharCode(...digits));
}

function sequence(...items: forge.asn1.Asn1[]): forge.asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, items);
}

function objectId(oid: string): forge.asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.OID, false, asn1.oidToDer(oid).getBytes());
}

function boolean(value: boolean): forge.asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.BOOLEAN, false, value ? "\xff" : "\x00");
}

function octets(binary: string): forge.asn1.Asn1 {
  return asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, binary);
}

function bitString(binary: string, unusedBits: number): forge.asn1.Asn1 {
  return asn1.create(
    Class.UNIVERSAL,
    Type.BITSTRING,
    false,
    String.fromCharCode(unusedBits) + binary,
  );
}

/** The bytes of an IPv4 address, or of an IPv6 address in any of its forms. */
function addressBytes(address: string): string {
  if (isIPv4(address)) return String.fromCharCode(...address.split(".").map(Number));
  // The URL parser writes an address out in its shortest form, without a dotted tail.
  const [head, tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const groups = (text: string | undefined) => text ? text.split(":") : [];
  const [first, last] = [groups(head), groups(tail)];
  const zeros = Array<string>(8 - first.length - last.length).fill("0");
  const words = [...first, ...zeros, ...last].map((group) => parseInt(group, 16));
  return String.fromCharCode(...words.flatMap((word) => [word >> 8, word & 0xff]));
}

function toPem(label: string, der: Uint8Array): string {
  const lines = btoa(toBinary(der)).match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function fromPem(pem: string): Uint8Array<ArrayBuffer> {
  return fromBinary(atob(pem.replace(/-----[A-Z0-9 ]+-----|\s+/g, "")));
}

/** node-forge's strings hold one byte in each character. */
function toBinary(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function fromBinary(binary: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
