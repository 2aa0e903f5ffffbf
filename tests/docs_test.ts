/**
 * The documents hold what they promise: links lead somewhere, commands exist, every error code is explained, and no
 * machine or registry is named.
 * It must not judge prose.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join, relative } from "@std/path";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** The form of the changelog and of versions; nothing else outside of this project is linked. */
const LINKED_HOSTS = ["keepachangelog.com", "semver.org"];

/** Names of hosts that serve packages or images, in any of their spellings. */
const REGISTRIES =
  /\b[\w.-]*(?:npmjs|golang|debian|ubuntu|pypi|pythonhosted|crates|jsr|docker|ghcr|quay)\.(?:org|com|io)\b|registry\.k8s\.io/;

/** Room for what the code has, not for a book. */
const DOCUMENT_LINES = 180;

interface Document {
  readonly path: string;
  readonly text: string;
}

async function documents(dir = ROOT): Promise<Document[]> {
  const found: Document[] = [];
  for await (const entry of Deno.readDir(dir)) {
    const path = join(dir, entry.name);
    if (/^(\.|node_modules$|dist$)/.test(entry.name)) continue;
    if (entry.isDirectory) found.push(...await documents(path));
    else if (entry.name.endsWith(".md")) {
      found.push({ path: relative(ROOT, path), text: await Deno.readTextFile(path) });
    }
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

const all = await documents();
const read = (path: string) => Deno.readTextFileSync(join(ROOT, path));
const document = (path: string) => all.find((one) => one.path === path)!;

/** What stands between fences, the blocks among it without a language, and the rest. */
function splitFences(
  text: string,
): { readonly blocks: string[]; readonly diagrams: string[]; readonly prose: string } {
  const blocks: string[] = [];
  const diagrams: string[] = [];
  const fence = /^```([^\n]*)\n([\s\S]*?)^```$/gm;
  const prose = text.replaceAll(fence, (_, language: string, block: string) => {
    blocks.push(block);
    if (language === "") diagrams.push(block);
    return "";
  });
  return { blocks, diagrams, prose };
}

/** The anchor of a heading, as renderers make it. */
function anchorOf(heading: string): string {
  return heading.trim().toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-");
}

/** Every word after `gateway` where a command is written: in code, at the start of a span or of a line. */
function commandsNamed(text: string): string[] {
  const { blocks, prose } = splitFences(text);
  const spans = [...prose.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!);
  // In a captured session only the lines after a prompt are what the user typed.
  const lines = blocks.flatMap((block) => {
    const all = block.split("\n");
    const typed = all.filter((line) => line.startsWith("$ "));
    return typed.length > 1 ? typed : all;
  });
  return [...spans, ...lines].flatMap((code) => {
    const match = /^\s*(?:\$ )?(?:npx -y deno@\S+ task )?gateway ([a-z][a-z-]*)\b/.exec(code);
    return match ? [match[1]!] : [];
  });
}

/** The commands that cli.ts and the room of commands define. */
function commandsDefined(): Set<string> {
  const files = ["bootstrap/commands", "bootstrap/commands/help"].flatMap((dir) =>
    [...Deno.readDirSync(join(ROOT, dir))].filter(({ isFile }) => isFile)
      .map(({ name }) => `${dir}/${name}`)
  );
  const text = ["cli.ts", ...files].map(read).join("\n");
  const call = /\b(?:command|subcommand|named|group)\(\s*(?:root,\s*)?"([a-z][a-z-]*)/g;
  const names = [...text.matchAll(call)].map((match) => match[1]!);
  const aliases = [...text.matchAll(/\.alias\("([a-z]+)"\)/g)].map((match) => match[1]!);
  return new Set([...names, ...aliases, "help"]);
}

Deno.test("commandsNamed() sees commands in code and nothing else", () => {
  const text =
    "run `gateway up --name x`, `gateway` or `gateway --exec y`; gateway down is prose.\n" +
    "```sh\n$ gateway list\nnpx -y deno@2.9.6 task gateway exec -- true\n  echo gateway rm\n```\n";
  assertEquals(commandsNamed(text), ["up", "list", "exec"]);
});

Deno.test("every link in a document leads to a file, and every anchor to a heading", () => {
  const broken: string[] = [];
  for (const { path, text } of all) {
    for (const match of splitFences(text).prose.matchAll(/\]\(([^()\s]+)\)/g)) {
      const target = match[1]!;
      if (/^https?:/.test(target)) continue;
      const [file = "", anchor] = target.split("#");
      const wanted = file === "" ? path : relative(ROOT, join(ROOT, path, "..", file));
      const inside = !wanted.startsWith("..") && exists(join(ROOT, wanted));
      const headings = anchor === undefined || !inside ? [] : headingsOf(read(wanted));
      if (!inside || (anchor !== undefined && !headings.includes(anchor))) {
        broken.push(`${path}: ${target}`);
      }
    }
  }
  assertEquals(broken, []);
});

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function headingsOf(text: string): string[] {
  return [...splitFences(text).prose.matchAll(/^#+ (.+)$/gm)].map((match) => anchorOf(match[1]!));
}

Deno.test("every command that a document names exists", () => {
  const defined = commandsDefined();
  assert(defined.has("up") && defined.has("status") && defined.has("port"), [...defined].join());
  const unknown = all.flatMap(({ path, text }) =>
    commandsNamed(text).filter((name) => !defined.has(name)).map((name) => `${path}: ${name}`)
  );
  assertEquals(unknown, []);
});

Deno.test("the README names every command", () => {
  const named = new Set(commandsNamed(document("README.md").text));
  const silent = [...commandsDefined()].filter((name) => !["help", "ls"].includes(name));
  assertEquals(silent.filter((name) => !named.has(name)), []);
});

Deno.test("the README starts with the two commands and keeps a place for a session", () => {
  const { text } = document("README.md");
  for (const task of ["gateway", "test"]) {
    assert(text.includes(`\nnpx -y deno@2.9.6 task ${task} `), `task ${task} is missing`);
  }
  const start = text.indexOf("<!-- session:start -->");
  const end = text.indexOf("<!-- session:end -->");
  assert(start > 0 && end > start, "the session's markers are missing");
});

Deno.test("every error code that can be met is explained", async () => {
  const union = read("vm/base/error.ts").match(/export type ErrorCode =([\s\S]*?);/)![1]!;
  const codes = [...union.matchAll(/"([a-z-]+)"/g)].map((match) => match[1]!);
  assert(codes.length > 10);
  const used = await quotedWords();
  const table = document("docs/troubleshooting.md").text;
  const helpers = {
    usage: "usageError(",
    interrupted: "interruptedError(",
    "disk-full": "asDiskFull(",
  };
  const silent = codes.filter((code) =>
    (used.has(code) || code in helpers) && !table.includes(`| \`${code}\` |`)
  );
  assertEquals(silent, []);
  const explained = [...table.matchAll(/^\| `([a-z-]+)` \|/gm)].map((match) => match[1]!);
  assertEquals(explained.filter((code) => !codes.includes(code)), []);
});

/** Words in quotes in the product's sources apart from the union itself. */
async function quotedWords(): Promise<Set<string>> {
  const words = new Set<string>();
  const walk = async (dir: string) => {
    for await (const entry of Deno.readDir(dir)) {
      const path = join(dir, entry.name);
      if (entry.isDirectory) await walk(path);
      else if (/\.ts$/.test(entry.name) && !/_test\.ts$|^error\.ts$/.test(entry.name)) {
        const text = await Deno.readTextFile(path);
        for (const [, word] of text.matchAll(/"([a-z-]+)"/g)) words.add(word!);
      }
    }
  };
  for (const room of ["vm", "net", "rootfs", "kernel", "bootstrap"]) await walk(join(ROOT, room));
  return words;
}

/** What names a promise's test in the table of docs/threat-model.md. */
const TEST_FILE = /`((?:[\w.-]+\/)+[\w.-]+\.(?:ts|go))`/g;

Deno.test("every promise of the threat model names tests, and they exist", () => {
  const { text } = document("docs/threat-model.md");
  const promised = text.slice(text.indexOf("## What is promised"), text.indexOf("## What is not"));
  const rows = promised.split("\n").filter((line) => /^\|(?! promise |---)/.test(line));
  assert(rows.length > 20, `${rows.length} promises`);
  const named = rows.map((row) => [...row.matchAll(TEST_FILE)].map((match) => match[1]!));
  assertEquals(rows.filter((_, at) => named[at]!.length === 0), []);
  const files = named.flat();
  // A test of its own, or one that tests/vm/walk.ts has for several VMs.
  const tests = files.filter((path) => /_test\.(ts|go)$/.test(path) || path === "tests/vm/walk.ts");
  assertEquals(files.filter((path) => !tests.includes(path) || !exists(join(ROOT, path))), []);
});

Deno.test("no document names a registry, a host of the net or a folder of one machine", () => {
  const wrong: string[] = [];
  for (const { path, text } of all) {
    for (const match of text.matchAll(/https?:\/\/([^\s/:)>"'`]+)/g)) {
      const host = match[1]!;
      const ours = ["127.0.0.1", "localhost", "gvproxy"].includes(host) ||
        // Names inside every cluster.
        ["host.openshell.internal", "kubernetes.default.svc.cluster.local"].includes(host);
      if (!ours && !LINKED_HOSTS.includes(host)) wrong.push(`${path}: ${host}`);
    }
    const named = REGISTRIES.exec(text) ?? /\/(?:home|Users|work)\/\w+/.exec(text);
    if (named) wrong.push(`${path}: ${named[0]}`);
  }
  assertEquals(wrong, []);
});

Deno.test("no document is longer than one reads at a sitting, and no diagram wider than 80", () => {
  // The changelog is looked things up in.
  const long = all.filter(({ path, text }) =>
    path !== "CHANGELOG.md" && text.trimEnd().split("\n").length > DOCUMENT_LINES
  );
  assertEquals(long.map(({ path }) => path), []);
  const ours = all.filter(({ path }) => /^(README\.md|docs\/)/.test(path));
  const wide = ours.flatMap(({ path, text }) =>
    // What was captured is as wide as it was.
    splitFences(text.replace(/<!-- session:start[\s\S]*session:end -->/, "")).diagrams
      .flatMap((block) => block.split("\n"))
      .filter((line) => line.length > 80)
      .map((line) => `${path}: ${line}`)
  );
  assertEquals(wide, []);
});
