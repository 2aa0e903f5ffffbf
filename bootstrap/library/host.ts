/**
 * What this host has for gateway, as a program asks.
 *
 * @module
 */
import { silentSpan } from "../../vm/base/event.ts";
import { doctor as check, type HostCheck } from "../inspect/doctor.ts";

/** Checks this host. Never throws for what is missing: each finding has its fix. */
export async function doctor(
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<HostCheck[]> {
  return await check(silentSpan(), signal ?? new AbortController().signal);
}
