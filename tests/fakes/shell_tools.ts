/**
 * What completions, the manual page and the formula are tried in.
 *
 * @module
 */

/** Host programs of tests/shell_help_test.ts. */
export const SHELL_TOOLS = [
  ...["bash", "zsh", "fish", "mandoc"].map((program) => ({ program, debian: program })),
  { program: "man", debian: "man-db" },
];

/** Of tests/package_test.ts. */
export const RUBY_TOOL = { program: "ruby", debian: "ruby" };
