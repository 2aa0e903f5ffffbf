/**
 * The code signature inside a program for macOS: what it lets the program do, and whether it fits the program's bytes.
 * Layout and numbers are those of Apple's kernel (xnu, osfmk/kern/cs_blobs.h and mach-o/loader.h).
 * It must not judge who signed: what we make is signed by nobody in particular (ad hoc).
 *
 * @module
 */
import { createHash } from "node:crypto";
import forge from "node-forge";

/** A program for one processor with 64 bits. */
const MACH_O_64 = 0xfeedfacf;
const LC_CODE_SIGNATURE = 0x1d;
const HEADER_BYTES = 32;

const MAGIC = {
  superBlob: 0xfade0cc0,
  codeDirectory: 0xfade0c02,
  entitlements: 0xfade7171,
  entitlementsDer: 0xfade7172,
} as const;

/** What a blob is for; also, negative, where the code directory has its digest. */
const SLOT = { codeDirectory: 0, requirements: 2, entitlements: 5, entitlementsDer: 7 } as const;

const FLAG = { adHoc: 0x2, hardened: 0x10000 } as const;
const SHA256 = 2;
/** Of the part that every version of a code directory has. */
const DIRECTORY_BYTES = 44;
const SHA256_BYTES = 32;
/** More than any real signature has: that of a program of 80 MB has 160 kB to 700 kB. */
const MAX_SIGNATURE_BYTES = 16 * 1024 * 1024;

/** What a program's signature says of it. */
export interface MacSignature {
  /** Signed by nobody in particular. */
  readonly adHoc: boolean;
  /** Apple's hardened runtime, which forbids what an entitlement does not allow. */
  readonly hardened: boolean;
  /** Names of those that are granted, sorted. */
  readonly entitlements: readonly string[];
}

/** A signature in its program. */
interface Found {
  readonly blobs: ReadonlyMap<number, DataView>;
  readonly directory: DataView;
  /** Where in the file the signature begins. */
  readonly offset: number;
}

/**
 * The signature of a program that begins at byte `start` of the file; undefined where it is not for macOS or has no
 * signature.
 */
export async function readMacSignature(
  path: string,
  start = 0,
): Promise<MacSignature | undefined> {
  using file = await ProgramFile.open(path, start);
  const found = await findSignature(file);
  if (!found) return undefined;
  const flags = found.directory.getUint32(12);
  return {
    adHoc: (flags & FLAG.adHoc) !== 0,
    hardened: (flags & FLAG.hardened) !== 0,
    entitlements: xmlEntitlements(found.blobs.get(SLOT.entitlements)),
  };
}

/**
 * Why macOS would not run a program as it is signed; undefined where nothing is wrong: the digest of every page and of
 * every part of the signature is right, and the entitlements are there in both forms. Reads all of the program, which
 * begins at byte `start` of the file.
 */
export async function findSignatureFault(path: string, start = 0): Promise<string | undefined> {
  using file = await ProgramFile.open(path, start);
  const found = await findSignature(file);
  if (!found) return "it is no program for macOS with a signature";
  const { directory, blobs, offset } = found;
  if (directory.getUint8(36) !== SHA256_BYTES || directory.getUint8(37) !== SHA256) {
    return "its digests are not SHA-256";
  }
  const limit = directory.getUint32(32);
  if (limit !== offset) return `it is signed to byte ${limit} instead of ${offset}`;
  return await findPageFault(file, directory) ?? findSlotFault(directory, blobs) ??
    findEntitlementFault(blobs);
}

async function findSignature(file: ProgramFile): Promise<Found | undefined> {
  const head = await file.read(0, HEADER_BYTES);
  if (head?.getUint32(0, true) !== MACH_O_64) return undefined;
  const commands = await file.read(HEADER_BYTES, head.getUint32(20, true));
  const place = commands && signaturePlace(commands, head.getUint32(16, true));
  if (!place || place.size > MAX_SIGNATURE_BYTES) return undefined;
  const all = await file.read(place.offset, place.size);
  const blobs = all && readBlobs(all);
  const directory = blobs?.get(SLOT.codeDirectory);
  if (!blobs || !directory || directory.byteLength < DIRECTORY_BYTES) return undefined;
  return { blobs, directory, offset: place.offset };
}

function signaturePlace(commands: DataView, count: number) {
  for (let at = 0; count > 0 && at + 16 <= commands.byteLength; count--) {
    const size = commands.getUint32(at + 4, true);
    if (commands.getUint32(at, true) === LC_CODE_SIGNATURE) {
      return { offset: commands.getUint32(at + 8, true), size: commands.getUint32(at + 12, true) };
    }
    if (size === 0) return undefined;
    at += size;
  }
}

/** The parts of a signature by what they are for. */
function readBlobs(all: DataView): ReadonlyMap<number, DataView> | undefined {
  if (all.byteLength < 12 || all.getUint32(0) !== MAGIC.superBlob) return undefined;
  const blobs = new Map<number, DataView>();
  for (let index = 0; index < all.getUint32(8); index++) {
    const entry = 12 + index * 8;
    if (entry + 8 > all.byteLength) return undefined;
    const at = all.getUint32(entry + 4);
    if (at + 8 > all.byteLength || at + all.getUint32(at + 4) > all.byteLength) return undefined;
    blobs.set(
      all.getUint32(entry),
      new DataView(all.buffer, all.byteOffset + at, all.getUint32(at + 4)),
    );
  }
  const directory = blobs.get(SLOT.codeDirectory);
  return directory?.getUint32(0) === MAGIC.codeDirectory ? blobs : undefined;
}

async function findPageFault(file: ProgramFile, directory: DataView): Promise<string | undefined> {
  const pageBytes = 2 ** directory.getUint8(39);
  const [digestsAt, pages] = [directory.getUint32(16), directory.getUint32(28)];
  const limit = directory.getUint32(32);
  if (pages !== Math.ceil(limit / pageBytes)) return `${pages} pages are signed, and not all`;
  for (let page = 0; page < pages; page++) {
    const at = page * pageBytes;
    const data = await file.read(at, Math.min(pageBytes, limit - at));
    if (!data || digest(data) !== digestAt(directory, digestsAt, page)) {
      return `page ${page} is not what was signed`;
    }
  }
}

/** Digests of the other parts stand before those of the pages, the first part's last. */
function findSlotFault(
  directory: DataView,
  blobs: ReadonlyMap<number, DataView>,
): string | undefined {
  const [digestsAt, slots] = [directory.getUint32(16), directory.getUint32(24)];
  for (const [name, slot] of Object.entries(SLOT)) {
    const blob = blobs.get(slot);
    if (slot === SLOT.codeDirectory || !blob) continue;
    if (slot > slots || digest(blob) !== digestAt(directory, digestsAt, -slot)) {
      return `its ${name} are not what was signed`;
    }
  }
}

function findEntitlementFault(blobs: ReadonlyMap<number, DataView>): string | undefined {
  const xml = xmlEntitlements(blobs.get(SLOT.entitlements));
  const der = derEntitlements(blobs.get(SLOT.entitlementsDer));
  if (xml.join() === der.join()) return undefined;
  return `its entitlements are "${xml.join(" ")}" as text and "${der.join(" ")}" as DER`;
}

function xmlEntitlements(blob: DataView | undefined): string[] {
  if (blob?.getUint32(0) !== MAGIC.entitlements) return [];
  const text = new TextDecoder().decode(content(blob));
  return [...text.matchAll(/<key>([\w.-]+)<\/key>\s*<true\s*\/>/g)].map(([, name]) => name!).sort();
}

/** From macOS 12 on the kernel reads this form only: version 1, then a sequence of name and value each. */
function derEntitlements(blob: DataView | undefined): string[] {
  if (blob?.getUint32(0) !== MAGIC.entitlementsDer) return [];
  const bytes = forge.util.createBuffer(content(blob));
  const [, dictionary] = forge.asn1.fromDer(bytes).value as forge.asn1.Asn1[];
  const granted = (dictionary?.value ?? []) as forge.asn1.Asn1[];
  return granted.flatMap(({ value }) => {
    const [name, allowed] = value as forge.asn1.Asn1[];
    return allowed?.value === "\xff" ? [String(name?.value)] : [];
  }).sort();
}

function content({ buffer, byteOffset, byteLength }: DataView): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer as ArrayBuffer, byteOffset + 8, byteLength - 8);
}

function digest({ buffer, byteOffset, byteLength }: DataView): string {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  return createHash("sha256").update(bytes).digest("hex");
}

function digestAt(directory: DataView, digestsAt: number, index: number): string | undefined {
  const at = digestsAt + index * SHA256_BYTES;
  if (at < 0 || at + SHA256_BYTES > directory.byteLength) return undefined;
  return new Uint8Array(directory.buffer, directory.byteOffset + at, SHA256_BYTES).toHex();
}

/** A program within a file. */
class ProgramFile implements Disposable {
  private constructor(private readonly file: Deno.FsFile, private readonly start: number) {}

  static async open(path: string, start: number): Promise<ProgramFile> {
    return new ProgramFile(await Deno.open(path), start);
  }

  /** Undefined where the file ends before. */
  async read(at: number, size: number): Promise<DataView | undefined> {
    const bytes = new Uint8Array(size);
    await this.file.seek(this.start + at, Deno.SeekMode.Start);
    for (let got = 0; got < size;) {
      const count = await this.file.read(bytes.subarray(got));
      if (count === null) return undefined;
      got += count;
    }
    return new DataView(bytes.buffer);
  }

  [Symbol.dispose](): void {
    this.file.close();
  }
}
