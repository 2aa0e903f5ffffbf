/**
 * Style as an executable test: the import arrows between the rooms, sizes, who may start programs, poll, print or
 * open libraries, and words that a finished line does not hold.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join, relative } from "@std/path";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** Who may import whom: a room and everything to the right of it that it may name. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "cli.ts": ["cli.ts", "mod.ts", "bootstrap", "vm"],
  "mod.ts": ["bootstrap", "net", "rootfs", "kernel", "vm", "ffi"],
  "bootstrap": ["bootstrap", "net", "rootfs", "kernel", "vm"],
  "net": ["net", "vm"],
  "rootfs": ["rootfs", "vm"],
  "kernel": ["kernel", "vm"],
  "vm": ["vm", "ffi"],
  "ffi": ["ffi"],
};

/** The rooms inside of a room, floor by floor: a room may import those on the floors below, not those beside it. */
const FLOORS: Readonly<Record<string, readonly (readonly string[])[]>> = {
  "bootstrap": [
    ...[
      ["commands"],
      ["library"],
      ["inspect", "deploy", "package"],
      ["start"],
      ["saved"],
      ["plan"],
      ["run"],
    ],
    ...[["cluster"], ["payload"], ["images", "artifacts", "credentials"], ["view", "yaml"]],
  ],
  "rootfs": [["recipes.ts"], ["images", "cluster"], ["root"], ["pins"], ["lock.json"], [
    "contract.ts",
  ]],
  "vm": [["libkrun", "qemu"], ["instance"], ["machine"], ["store"], ["base"]],
};

/** The file of each room to open first: its comment says what is in the room, what is not, and what to read next. */
const FIRST_FILES: Readonly<Record<string, string>> = {
  "bootstrap/commands": "kit.ts",
  "bootstrap/library": "instance.ts",
  "bootstrap/inspect": "status.ts",
  "bootstrap/deploy": "deploy.ts",
  "bootstrap/package": "main.ts",
  "bootstrap/start": "up.ts",
  "bootstrap/saved": "golden.ts",
  "bootstrap/plan": "plan.ts",
  "bootstrap/run": "supervisor.ts",
  "bootstrap/cluster": "api.ts",
  "bootstrap/payload": "payload.ts",
  "bootstrap/images": "ensure.ts",
  "bootstrap/artifacts": "ensure.ts",
  "bootstrap/credentials": "pki.ts",
  "bootstrap/view": "progress.ts",
  "bootstrap/yaml": "kube_yaml.ts",
  "net": "gvproxy.ts",
  "rootfs/images": "images.ts",
  "rootfs/cluster": "cluster.ts",
  "rootfs/root": "root.ts",
  "rootfs/pins": "lock.ts",
  "kernel": "kernel.ts",
  "vm/libkrun": "driver.ts",
  "vm/qemu": "driver.ts",
  "vm/instance": "instance.ts",
  "vm/machine": "vmm.ts",
  "vm/store": "artifact.ts",
  "vm/base": "layout.ts",
  "ffi": "krun.ts",
};

const TOP_LEVEL = [
  ...["deno.json", "deno.lock", "mod.ts", "cli.ts"],
  ...["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"],
  ...["ffi", "vm", "net", "bootstrap", "rootfs", "kernel", "tests", "docs", "dist"],
];

const FILE_LINES = 400;
const FUNCTION_LINES = 70;

interface Source {
  readonly path: string;
  readonly room: string;
  readonly text: string;
}

async function sources(extensions: RegExp): Promise<Source[]> {
  const found: Source[] = [];
  const walk = async (dir: string) => {
    for await (const entry of Deno.readDir(dir)) {
      const path = join(dir, entry.name);
      if (/^(\.|node_modules$|dist$)/.test(entry.name)) continue;
      if (entry.isDirectory) await walk(path);
      else if (extensions.test(entry.name)) {
        const name = relative(ROOT, path);
        found.push({ path: name, room: name.split("/")[0]!, text: await Deno.readTextFile(path) });
      }
    }
  };
  await walk(ROOT);
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

const typescript = await sources(/\.ts$/);
const product = typescript.filter(({ path, room }) =>
  room !== "tests" && !path.endsWith("_test.ts")
);

Deno.test("the top level holds only the rooms and documents", () => {
  const names = [...Deno.readDirSync(ROOT)].map((entry) => entry.name);
  assertEquals(names.filter((name) => !name.startsWith(".") && !TOP_LEVEL.includes(name)), []);
});

/** Files that a source imports, types included, named from the top. */
function imports({ path, text }: Source): string[] {
  const found = text.matchAll(/(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+)"/g);
  return [...found].map(([, name]) => relative(ROOT, join(ROOT, path, "..", name!)));
}

Deno.test("imports follow the arrows of the design", () => {
  const wrong = product.flatMap((source) =>
    imports(source)
      .filter((target) => !MAY_IMPORT[source.room]?.includes(target.split("/")[0]!))
      .map((target) => `${source.path} imports ${target}`)
  );
  assertEquals(wrong, []);
});

Deno.test("every file of a room with floors stands on one, and imports from below only", () => {
  const wrong: string[] = [];
  const floorOf = (path: string) => {
    const [room, inner] = path.split("/");
    return FLOORS[room!]!.findIndex((floor) => floor.includes(inner!));
  };
  for (const source of product.filter(({ room }) => room in FLOORS)) {
    const { path, room } = source;
    if (floorOf(path) < 0) wrong.push(`${path} is in none of the rooms of ${room}/`);
    for (const target of imports(source)) {
      if (target.split("/")[0] !== room || target.split("/")[1] === path.split("/")[1]) continue;
      if (floorOf(target) <= floorOf(path)) wrong.push(`${path} imports ${target}`);
    }
  }
  assertEquals(wrong, []);
});

Deno.test("no two files import each other in a circle, types included", () => {
  const files = new Map(product.map((source) => [source.path, imports(source)]));
  // What imports nothing that is left goes, again and again; what stays is a circle or stands above one.
  for (let before = Infinity; files.size < before;) {
    before = files.size;
    for (const [path, targets] of files) {
      if (!targets.some((target) => files.has(target))) files.delete(path);
    }
  }
  assertEquals([...files.keys()], []);
});

Deno.test("every exported function, class or constant is used by another file", () => {
  const words = new Map(typescript.map(({ path, text }) => [path, new Set(text.match(/\w+/g))]));
  const exported = /^export (?:async )?(?:function\*?|class|const|let|enum) (\w+)/gm;
  const unused = product.flatMap(({ path, text }) =>
    [...text.matchAll(exported)].map(([, name]) => name!)
      .filter((name) => ![...words].some(([other, used]) => other !== path && used.has(name)))
      .map((name) => `${path} ${name}`)
  );
  assertEquals(unused, []);
});

Deno.test("no source file is longer than the design allows", async () => {
  const all = await sources(/\.(ts|go|sh)$|^gateway-init$|^\d\d-[\w-]+$/);
  const long = all.filter(({ text }) => text.trimEnd().split("\n").length > FILE_LINES);
  assertEquals(long.map(({ path }) => path), []);
});

/** Lines of a source that begin a function: a declaration, a method, or an arrow function with a name. */
function functionStarts(
  lines: readonly string[],
): { name: string; start: number; indent: string }[] {
  const starts: { name: string; start: number; indent: string }[] = [];
  lines.forEach((line, start) => {
    const match = DECLARATION.exec(line) ?? ARROW.exec(line) ?? METHOD.exec(line);
    if (!match || NO_METHOD.test(match[2]!)) return;
    const [, indent, name] = match;
    // A signature over several lines ends where its parenthesis stands alone; a call's never opens a block.
    const head = line.endsWith("(")
      ? lines.find((other, at) => at > start && other.startsWith(`${indent})`)) ?? ""
      : line;
    const opens = /\{$/.test(head) && (ARROW.test(line) || !/=> \{$/.test(head));
    if (opens) starts.push({ name: name!, start, indent: indent! });
  });
  return starts;
}

const DECLARATION = /^( *)(?:export )?(?:default )?(?:async )?function\*? (\w+)/;
const ARROW = /^( *)(?:export )?const (\w+)(?:: [^=]+)? = (?:async )?(?:<[^>]*>)?\(/;
const METHOD =
  /^( +)(?:(?:async|static|private|public|protected|override|get|set) )*\*?((?:#?\w+|\[Symbol\.\w+\]))(?:<[^>]*>)?\(/;
const NO_METHOD =
  /^(?:if|for|while|switch|catch|return|await|throw|super|function|typeof|void|new)$/;

Deno.test("functionStarts() sees functions and nothing else", () => {
  const lines = `
export async function one(a: string): Promise<void> {
}
function two(
  a: string,
): string {
}
const three = async (a: string) => {
};
class C {
  constructor(private readonly a: string) {
  }
  static async #four<T>(
    a: T,
  ): Promise<T> {
    if (a) {
    }
    run(
      a,
    );
    each(a, (b) => {
    });
    await each(a, () => {
    });
    items.forEach((item) => {
    });
  }
  async [Symbol.asyncDispose](): Promise<void> {
  }
  get five(): string {
  }
}
function overload(a: string): void;
const short = (a: string) => a;
`.split("\n");
  assertEquals(functionStarts(lines).map(({ name }) => name), [
    ...["one", "two", "three", "constructor", "#four", "[Symbol.asyncDispose]", "five"],
  ]);
});

Deno.test("no function is longer than the design allows", () => {
  const long: string[] = [];
  for (const { path, text } of product) {
    const lines = text.split("\n");
    for (const { name, start, indent } of functionStarts(lines)) {
      const end = lines.findIndex((other, at) =>
        at > start && new RegExp(`^${indent}}[;,)]*$`).test(other)
      );
      const count = end - start + 1;
      if (end < 0 || count > FUNCTION_LINES) {
        long.push(`${path}:${start + 1} ${name} (${end < 0 ? "no end found" : `${count} lines`})`);
      }
    }
  }
  assertEquals(long, []);
});

for (
  const [what, pattern, allowed] of [
    ["starts programs", /new Deno\.Command\b/, ["vm/base/process.ts"]],
    ["opens libraries", /Deno\.dlopen\b/, ["ffi/"]],
    ["prints", /\bconsole\.\w+\(|Deno\.std(out|err)\b/, [
      ...[
        "cli.ts",
        "bootstrap/commands/up.ts",
        "bootstrap/package/main.ts",
        "vm/libkrun/vmm_process.ts",
      ],
    ]],
    ["exits", /Deno\.exit\b/, ["cli.ts", "vm/libkrun/vmm_process.ts"]],
    ["sleeps", /\bsetInterval\(|\bdelay\(/, [
      "vm/base/wait.ts",
      "vm/base/std/",
      "bootstrap/view/progress_view.ts",
    ]],
    [
      "names what the guest agrees on",
      /\/etc\/rancher|\/var\/log\/k3s|\/run\/payload|\/var\/lib\/rancher|\bGW_[A-Z]/,
      ["rootfs/contract.ts"],
    ],
  ] as const
) {
  Deno.test(`only ${allowed.join(", ")} ${what}`, () => {
    const wrong = product.filter(({ path, text }) =>
      pattern.test(text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "")) &&
      !allowed.some((place) => path.startsWith(place))
    );
    assertEquals(wrong.map(({ path }) => path), []);
  });
}

Deno.test("every module says why it exists", () => {
  const silent = product.filter(({ text }) => !/^\/\*\*[\s\S]*?@module\b/.test(text));
  assertEquals(silent.map(({ path }) => path), []);
});

Deno.test("the first file of each room begins with what the room is", () => {
  const inner = Object.entries(FLOORS).flatMap(([room, floors]) =>
    floors.flat().filter((name) => !name.includes(".")).map((name) => `${room}/${name}`)
  );
  const withoutFloors = Object.keys(MAY_IMPORT)
    .filter((room) => !room.includes(".") && !(room in FLOORS));
  assertEquals(Object.keys(FIRST_FILES).sort(), [...inner, ...withoutFloors].sort());
  const silent = Object.entries(FIRST_FILES).map(([room, file]) => `${room}/${file}`)
    .filter((path) =>
      !product.some((one) => one.path === path && one.text.startsWith("/**\n * This room "))
    );
  assertEquals(silent, []);
});

Deno.test("no unfinished line, and no address of the machine or registry it was written on", async () => {
  const all = await sources(/\.(ts|go|sh|json|md|tsv|yaml)$|^gateway-init$|^\d\d-[\w-]+$/);
  const words =
    /\b(TODO|FIXME|XXX|HACK)\b|\/work\/(main|scratch|shared)|registry\.npmjs|proxy\.golang|deb\.debian\.org/;
  const wrong = all.filter(({ path, text }) => path !== "tests/tidy_test.ts" && words.test(text));
  assertEquals(wrong.map(({ path }) => path), []);
});
