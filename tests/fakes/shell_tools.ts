/**
 * What completions, the manual page, the formula and the Mac's file are tried in.
 *
 * @module
 */

/** Host programs of tests/shell_help_test.ts. */
export const SHELL_TOOLS = [
  ...["bash", "zsh", "fish", "mandoc"].map((program) => ({ program, debian: program })),
  { program: "man", debian: "man-db" },
];

/** Of tests/mac_file_test.ts; shasum comes with perl. */
export const MAC_TOOLS = [
  ...["bash", "zsh"].map((program) => ({ program, debian: program })),
  { program: "bsdtar", debian: "libarchive-tools" },
  { program: "shasum", debian: "perl" },
  { program: "ps", debian: "procps" },
];

/** Of tests/package_test.ts. */
export const RUBY_TOOL = { program: "ruby", debian: "ruby" };
