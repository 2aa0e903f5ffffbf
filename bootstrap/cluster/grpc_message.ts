/**
 * The few gRPC messages that readiness sends and reads: one uncompressed frame with one Protocol Buffers message.
 *
 * @module
 */

/** A frame with an empty message. */
export const EMPTY_MESSAGE: Uint8Array = new Uint8Array(5);

/** A HealthCheckRequest, empty for the server as a whole. Pure. */
export function healthRequest(service = ""): Uint8Array {
  const name = new TextEncoder().encode(service);
  if (name.length > 127) throw new Error("the name of a gRPC service has more than 127 bytes");
  // Field 1, a string.
  const message = name.length === 0 ? [] : [0x0a, name.length, ...name];
  return new Uint8Array([0, 0, 0, 0, message.length, ...message]);
}

const HEALTH_STATUS = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/** The status of a framed HealthCheckResponse. Pure. */
export function readHealthStatus(body: Uint8Array): string {
  const status = readStatusField(body);
  if (typeof status !== "number") return status;
  return HEALTH_STATUS[status] ?? `status ${status}`;
}

/** Field 1 of a framed message, an enum or a number; 0 where it is left out, as proto 3 does with a zero. Pure. */
export function readStatusField(body: Uint8Array): number | "nothing that can be read" {
  const unreadable = "nothing that can be read";
  if (body.length < 5 || body[0] !== 0) return unreadable;
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1);
  const message = body.subarray(5, 5 + length);
  if (message.length !== length) return unreadable;
  for (let at = 0; at < message.length;) {
    const key = readVarint(message, at);
    if (key === undefined) return unreadable;
    const [field, wireType] = [key.value >>> 3, key.value & 7];
    const value = wireType === 0 || wireType === 2 ? readVarint(message, key.next) : undefined;
    if (field === 1) return wireType === 0 && value !== undefined ? value.value : unreadable;
    if (wireType === 0 && value) at = value.next;
    else if (wireType === 2 && value) at = value.next + value.value;
    else if (wireType === 1) at = key.next + 8;
    else if (wireType === 5) at = key.next + 4;
    else return unreadable;
    if (at > message.length) return unreadable;
  }
  return 0;
}

/** A number of at most 28 bits; what is larger is no field number, no length and no status that is looked for here. */
function readVarint(bytes: Uint8Array, at: number): { value: number; next: number } | undefined {
  let value = 0;
  for (const [place, byte] of bytes.subarray(at, at + 4).entries()) {
    value |= (byte & 0x7f) << (7 * place);
    if (byte < 0x80) return { value, next: at + place + 1 };
  }
  return undefined;
}
