/**
 * The kernel's configuration as data: options with a reason each, and the check that a finished .config holds them.
 * It must not run make or touch files; callers bring the texts.
 *
 * @module
 */
import { GatewayError } from "../vm/base/error.ts";

/** One option of the fragment. */
export interface KernelOption {
  /** With its prefix: "CONFIG_BRIDGE". */
  readonly name: string;
  /** As kconfig writes it: `y`, `n`, a number, or a quoted string. */
  readonly value: string;
  /** Why it is there. */
  readonly reason: string;
}

/** An option that the finished .config does not have as asked. */
export interface OptionMismatch {
  /** What was asked for. */
  readonly option: KernelOption;
  /** What .config has; undefined when it is off or unknown. */
  readonly found: string | undefined;
}

const LINE = /^(CONFIG_[A-Za-z0-9_]+)=(y|n|-?\d+|0x[0-9a-f]+|"[^"]*")\s+# (\S.*)$/;

/**
 * Parses a fragment file: blank lines, comment lines, and `CONFIG_X=value # reason`.
 *
 * @throws GatewayError `build-failed` naming the line that has another form, no reason, or an option a second time.
 */
export function parseFragment(text: string, fileName: string): KernelOption[] {
  const options = new Map<string, KernelOption>();
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trimEnd();
    if (line === "" || line.startsWith("#")) continue;
    const match = LINE.exec(line);
    if (!match) throw fragmentError(fileName, index, `"${line}" is not CONFIG_X=value # reason`);
    const [, name = "", value = "", reason = ""] = match;
    if (options.has(name)) throw fragmentError(fileName, index, `${name} is there twice`);
    options.set(name, { name, value, reason });
  }
  return [...options.values()];
}

/**
 * Joins the options of several files into one list.
 *
 * @throws GatewayError `build-failed` when two files set one option.
 */
export function joinFragments(parts: readonly (readonly KernelOption[])[]): KernelOption[] {
  const options = parts.flat();
  const seen = new Set<string>();
  for (const { name } of options) {
    if (seen.has(name)) {
      throw new GatewayError({
        code: "build-failed",
        what: "Cannot join the kernel fragments",
        why: `${name} is in two of them`,
        fix: "keep it in one file below kernel/fragment",
      });
    }
    seen.add(name);
  }
  return options;
}

/** The text kconfig reads, without the reasons, which it would take for a part of a value. */
export function toKconfig(options: readonly KernelOption[]): string {
  return options.map(({ name, value }) =>
    value === "n" ? `# ${name} is not set\n` : `${name}=${value}\n`
  ).join("");
}

/** The options of a .config; those that are "not set" are left out. */
export function parseConfig(text: string): Map<string, string> {
  const config = new Map<string, string>();
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0 && line.startsWith("CONFIG_")) config.set(line.slice(0, at), line.slice(at + 1));
  }
  return config;
}

/** Every option that the .config does not have with the value asked for. */
export function findMismatches(
  options: readonly KernelOption[],
  config: ReadonlyMap<string, string>,
): OptionMismatch[] {
  return options
    .map((option) => ({ option, found: config.get(option.name) }))
    .filter(({ option, found }) => (found ?? "n") !== option.value);
}

/**
 * What an option waits for, read from the Kconfig text that defines it: the symbols of its `depends on` lines and of
 * the `if` blocks around it that are off in the .config. Empty when the text does not define it or all are on.
 */
export function unmetDependencies(
  kconfig: string,
  optionName: string,
  config: ReadonlyMap<string, string>,
): string[] {
  const symbol = optionName.replace(/^CONFIG_/, "");
  const blocks: string[] = [];
  const conditions: string[] = [];
  let inside = false;
  for (const raw of kconfig.split("\n")) {
    const line = raw.trim();
    if (/^if\s/.test(raw)) blocks.push(line.slice(3));
    else if (/^endif\b/.test(raw)) blocks.pop();
    else if (/^\S/.test(raw)) {
      inside = new RegExp(`^(menu)?config ${symbol}$`).test(line);
      if (inside) conditions.push(...blocks);
    } else if (inside && line.startsWith("depends on ")) conditions.push(line.slice(11));
  }
  const names = conditions.flatMap((text) => text.match(/!?\b[A-Z][A-Z0-9_]+\b/g) ?? []);
  const unmet = names.filter((name) =>
    name.startsWith("!")
      ? config.has(`CONFIG_${name.slice(1)}`)
      : (config.get(`CONFIG_${name}`) ?? "n") === "n"
  );
  return [...new Set(unmet)];
}

/** True when a Kconfig text defines the option. */
export function definesOption(kconfig: string, optionName: string): boolean {
  const symbol = optionName.replace(/^CONFIG_/, "");
  return new RegExp(`^(menu)?config ${symbol}$`, "m").test(kconfig);
}

/** One sentence per mismatch, for the error. */
export function describeMismatch(mismatch: OptionMismatch, unmet: readonly string[]): string {
  const { option, found } = mismatch;
  const asked = `${option.name}=${option.value} is ${found ?? "not set"}`;
  return unmet.length === 0 ? asked : `${asked} (it needs ${unmet.join(", ")})`;
}

function fragmentError(fileName: string, index: number, why: string): GatewayError {
  return new GatewayError({
    code: "build-failed",
    what: `Cannot read "kernel/fragment/${fileName}" line ${index + 1}`,
    why,
    fix: `correct that line; kernel/fragment/common.config tells the form`,
  });
}
