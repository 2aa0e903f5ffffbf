// deno-lint-ignore-file no-console
/**
 * Runs the checks and test groups, shows what they print, and ends with the plain line `N passed, N failed`
 * (a check such as the formatter counts as one).
 * It must not hold a test.
 *
 * @module
 */
import { SSH_TOOL } from "../net/ssh.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ensureTools } from "../vm/base/host_tools.ts";
import { run } from "../vm/base/process.ts";
import { failureDigest } from "./failure_digest.ts";
import { REGISTRY_TOOL } from "./fakes/registry.ts";
import { MAC_TOOLS, RUBY_TOOL, SHELL_TOOLS } from "./fakes/shell_tools.ts";
import { TOOLS as GUEST_TOOLS } from "./guest/harness.ts";

/** One command and how its outcome is counted. */
interface Step {
  readonly name: string;
  readonly args: readonly string[];
  /** Its closing line holds counts; else its exit code is one test. */
  readonly counts: boolean;
  /** It is ended then; by default after 70. */
  readonly minutes?: number;
}

const check = (name: string, ...args: string[]): Step => ({ name, args, counts: false });
const tests = (name: string, ...args: string[]): Step => ({
  name,
  args: ["test", "--quiet", ...args],
  counts: true,
});

const OK: readonly Step[] = [
  check("format", "fmt", "--check", "--quiet"),
  check("lint", "lint", "--quiet"),
  check("types", "check", "--quiet", "."),
  check("docs", "doc", "--lint", "mod.ts"),
  ...["ffi", "vm", "net", "bootstrap", "rootfs", "kernel"].map((room) =>
    tests(`unit ${room}`, "--no-check", "--parallel", `-P=${room}`, `${room}/`)
  ),
  tests("tidy", "--no-check", "-A", "tests/tidy_test.ts"),
];

// Each file says what it needs and skips nothing silently.
const CLUSTERS: readonly Step[] = [
  // Before the clusters that go on from it, so that no state is made that is not used again.
  check(
    "golden state disk",
    ...["run", "--no-check", "-A", "cli.ts", "build", "golden", "--memory", "3072", "--cpus", "2"],
  ),
  // On a machine with other work they were cut off after 70.
  { ...tests("vm and cluster", "--no-check", "-A", "tests/vm/"), minutes: 86 },
];

const ROOMS: readonly Step[] = [
  check("libraries for tests/ffi", "run", "--no-check", "-A", "tests/ffi/build.ts"),
  tests("ffi", "--no-check", "--allow-ffi", "--allow-read", "tests/ffi/"),
  tests(
    "rooms together",
    "--no-check",
    "-A",
    "tests/",
    "--ignore=tests/tidy_test.ts,tests/ffi,tests/vm,tests/guest,tests/kernel,tests/nested,tests/long",
  ),
  tests("guest stages", "--no-check", "-A", "tests/guest/"),
  tests("kernel", "--no-check", "-A", "tests/kernel/"),
];

/** What takes longer than one waits for at each change: the soak alone has hours. */
const RARE: readonly Step[] = [
  tests("libkrun in a nested machine", "--no-check", "-A", "tests/nested/"),
  { ...tests("long", "--no-check", "-A", "tests/long/"), minutes: 24 * 60 },
];

/** What the long tests run besides the product's own tools. */
const TEST_TOOLS = [
  ...GUEST_TOOLS,
  { program: "cc", debian: "gcc" },
  { program: "curl", debian: "curl" },
  { program: "mkfs.xfs", debian: "xfsprogs" },
  { program: "openssl", debian: "openssl" },
  { program: "qemu-io", debian: "qemu-utils" },
  { program: "shellcheck", debian: "shellcheck" },
  {
    program: "libfaketime",
    debian: "libfaketime",
    path: "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
  },
  ...SHELL_TOOLS,
  ...MAC_TOOLS,
  REGISTRY_TOOL,
  RUBY_TOOL,
  SSH_TOOL,
];

const CLOSING =
  /(\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(?: \(\d+ steps?\))?(?: \| (\d+) ignored)?/;

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** What failed and why, a few lines for the end of a long output. */
  readonly digest: string;
}

/** `live`: shows what the tests print while they run, else at their end. */
async function runStep(step: Step, live: boolean): Promise<Outcome> {
  const started = performance.now();
  let text = "";
  const { code } = await run(Deno.execPath(), {
    args: step.args,
    env: { NO_COLOR: "1" },
    check: false,
    timeoutMs: (step.minutes ?? 70) * 60_000,
    onOutput: (piece) => {
      text += piece;
      if (step.counts && live) Deno.stdout.writeSync(new TextEncoder().encode(piece));
    },
  });
  if (step.counts ? !live : code !== 0) console.log(text);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`## ${step.name}: ${code === 0 ? "ok" : `failed (exit ${code})`} in ${seconds} s`);
  const digest = code === 0 ? "" : failureDigest(step.name, text);
  if (!step.counts) return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, digest };
  const closing = text.match(new RegExp(CLOSING, "g"))?.at(-1)?.match(CLOSING);
  const passed = Number(closing?.[1] ?? 0);
  // A group that dies before its closing line, or fails without a failed test, still counts as a failure.
  const failed = Math.max(Number(closing?.[2] ?? 0), code === 0 && closing ? 0 : 1);
  return { passed, failed, digest };
}

/** Sets of lists, one set after the other. The lists of a set run side by side: a guest mostly waits for one core. */
const PLANS = { ok: [[OK]], all: [[OK], [CLUSTERS, ROOMS]], long: [[RARE]] };
const wanted = (Deno.args[0] ?? "ok") as keyof typeof PLANS;
if (wanted !== "ok") {
  const signal = new AbortController().signal;
  await ensureTools(TEST_TOOLS, { span: silentSpan(), signal, assumeYes: true });
}
let passed = 0;
let failed = 0;
let digests = "";
async function runList(steps: readonly Step[], live: boolean): Promise<void> {
  for (const step of steps) {
    const result = await runStep(step, live);
    passed += result.passed;
    failed += result.failed;
    digests += result.digest;
  }
}
for (const lists of PLANS[wanted]) {
  await Promise.all(lists.map((steps, at) => runList(steps, at === 0)));
}
if (digests !== "") console.log(`\n${digests}`);
console.log(`${passed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);
