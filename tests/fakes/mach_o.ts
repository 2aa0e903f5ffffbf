/**
 * Programs for macOS that are nothing but their signature, made from Apple's own description of it and not by the code that
 * reads it.
 * It must not hold a test.
 *
 * @module
 */
import { createHash } from "node:crypto";
import forge from "node-forge";

const CODE_BYTES = 3 * 4096 + 100;
const PAGE_BYTES = 4096;
const SLOTS = 7;
const { asn1 } = forge;

/** What is to be signed. */
export interface MachOptions {
  /** Granted in the text. */
  readonly entitlements: readonly string[];
  /** Granted in the binary form; those of the text by default. */
  readonly der?: readonly string[];
  /** Of the code directory; ad hoc by default. */
  readonly flags?: number;
}

/** The program's bytes. */
export function machO(
  { entitlements, der = entitlements, flags = 0x2 }: MachOptions,
): Uint8Array<ArrayBuffer> {
  const code = new Uint8Array(CODE_BYTES).map((_, at) => at % 251);
  const text = entitlements.map((name) => `<key>${name}</key><true/>`).join("");
  const blobs = [
    {
      slot: 5,
      blob: blobOf(0xfade7171, new TextEncoder().encode(`<plist><dict>${text}</dict></plist>`)),
    },
    { slot: 7, blob: blobOf(0xfade7172, derOf(der)) },
  ];
  // The place of the signature is among what is signed.
  const directoryBytes = 48 + (SLOTS + Math.ceil(CODE_BYTES / PAGE_BYTES)) * 32;
  const size = 12 + 3 * 8 + directoryBytes + blobs.reduce((sum, { blob }) => sum + blob.length, 0);
  code.set(head(size));
  const directory = directoryOf(code, blobs, flags);
  const all = [{ slot: 0, blob: directory }, ...blobs];
  const index = words(false, 0xfade0cc0, size, all.length);
  let at = 12 + all.length * 8;
  const entries = all.map(({ slot, blob }) => {
    at += blob.length;
    return words(false, slot, at - blob.length);
  });
  return joined(code, index, ...entries, ...all.map(({ blob }) => blob));
}

/** For one processor with 64 bits, with one load command: where the signature is. */
function head(signatureBytes: number): Uint8Array {
  return words(
    true,
    0xfeedfacf,
    0x0100000c,
    0,
    2,
    1,
    16,
    0,
    0,
    0x1d,
    16,
    CODE_BYTES,
    signatureBytes,
  );
}

function directoryOf(
  code: Uint8Array,
  blobs: readonly { readonly slot: number; readonly blob: Uint8Array }[],
  flags: number,
): Uint8Array {
  const pages = Math.ceil(code.length / PAGE_BYTES);
  const digestsAt = 48 + SLOTS * 32;
  const bytes = digestsAt + pages * 32;
  const out = new Uint8Array(bytes);
  out.set(
    words(false, 0xfade0c02, bytes, 0x20100, flags, digestsAt, 44, SLOTS, pages, code.length),
  );
  out.set([32, 2, 0, Math.log2(PAGE_BYTES)], 36);
  const put = (index: number, data: Uint8Array) =>
    out.set(createHash("sha256").update(data).digest(), digestsAt + index * 32);
  for (const { slot, blob } of blobs) put(-slot, blob);
  for (let page = 0; page < pages; page++) {
    put(page, code.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
  }
  return out;
}

/** Version 1, and a sequence of name and value for each. */
function derOf(names: readonly string[]): Uint8Array {
  const { APPLICATION, CONTEXT_SPECIFIC, UNIVERSAL } = asn1.Class;
  const entries = names.map((name) =>
    asn1.create(UNIVERSAL, asn1.Type.SEQUENCE, true, [
      asn1.create(UNIVERSAL, asn1.Type.UTF8, false, name),
      asn1.create(UNIVERSAL, asn1.Type.BOOLEAN, false, "\xff"),
    ])
  );
  const all = asn1.create(APPLICATION, 16 as forge.asn1.Type, true, [
    asn1.create(UNIVERSAL, asn1.Type.INTEGER, false, "\x01"),
    asn1.create(CONTEXT_SPECIFIC, 16 as forge.asn1.Type, true, entries),
  ]);
  return Uint8Array.from(asn1.toDer(all).getBytes(), (char) => char.charCodeAt(0));
}

function blobOf(magic: number, content: Uint8Array): Uint8Array {
  return joined(words(false, magic, content.length + 8), content);
}

function words(littleEndian: boolean, ...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, index) => view.setUint32(index * 4, value, littleEndian));
  return new Uint8Array(view.buffer);
}

function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
