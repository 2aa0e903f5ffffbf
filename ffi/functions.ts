/**
 * C functions of a library by their addresses. Deno.dlopen compiles a piece of machine code for each function that it is
 * told of, which pays after thousands of calls; ours are called once each, in a process whose start a user waits for.
 * It must not be used for a function that is called often.
 *
 * @module
 */

/** Functions as they are described to Deno. */
export type FunctionTable = Readonly<Record<string, Deno.ForeignFunction>>;

/** An open library. */
export interface OpenFunctions<T extends FunctionTable> {
  /** By name; null for an optional one that the library does not have. */
  readonly symbols: Deno.DynamicLibrary<T>["symbols"];
  /** Closes the library; the functions must not be called any more. */
  close(): void;
}

/** Opens a library. @throws Error in Deno's words when there is none, or when a function that is not optional is missing. */
export function openFunctions<T extends FunctionTable>(path: string, table: T): OpenFunctions<T> {
  const addresses: Record<string, { type: "pointer"; optional: boolean }> = {};
  for (const [name, { optional = false }] of Object.entries(table)) {
    addresses[name] = { type: "pointer", optional };
  }
  const library = Deno.dlopen(path, addresses);
  const symbols: Record<string, unknown> = {};
  for (const name in table) {
    const address = library.symbols[name] as Deno.PointerObject<never> | null;
    const pointer = address && new Deno.UnsafeFnPointer<never>(address, table[name] as never);
    symbols[name] = pointer &&
      ((...args: unknown[]) => Reflect.apply(pointer.call, pointer, args));
  }
  return {
    symbols: symbols as Deno.DynamicLibrary<T>["symbols"],
    close: () => library.close(),
  };
}
