/**
 * Unit tests of fragment.ts, and of the real fragments and the list of required options against each other.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../vm/base/error.ts";
import {
  definesOption,
  describeMismatch,
  findMismatches,
  joinFragments,
  parseConfig,
  parseFragment,
  toKconfig,
  unmetDependencies,
} from "./fragment.ts";
import { kernelOptions } from "./kernel.ts";

const here = new URL(".", import.meta.url);

Deno.test("parseFragment() reads name, value and reason", () => {
  const text =
    '# head\n\nCONFIG_A=y # because\nCONFIG_S="x y"   # a text\nCONFIG_N=17 # a number\n';
  assertEquals(parseFragment(text, "f"), [
    { name: "CONFIG_A", value: "y", reason: "because" },
    { name: "CONFIG_S", value: '"x y"', reason: "a text" },
    { name: "CONFIG_N", value: "17", reason: "a number" },
  ]);
});

for (
  const [what, line] of [
    ["has no reason", "CONFIG_A=y"],
    ["has an empty reason", "CONFIG_A=y #  "],
    ["asks for a module", "CONFIG_A=m # modules are off"],
    ["is a kconfig comment of an option", "CONFIG_A is not set"],
  ]
) {
  Deno.test(`parseFragment() names file and line when an option ${what}`, () => {
    const error = assertThrows(() => parseFragment(`\n${line}\n`, "x.config"), GatewayError);
    assertEquals(error.what, 'Cannot read "kernel/fragment/x.config" line 2');
  });
}

Deno.test("parseFragment() refuses an option that is there twice", () => {
  const error = assertThrows(
    () => parseFragment("CONFIG_A=y # one\nCONFIG_A=n # two\n", "f"),
    GatewayError,
  );
  assertEquals(error.why, "CONFIG_A is there twice");
});

Deno.test("joinFragments() refuses an option that two files set", () => {
  const part = parseFragment("CONFIG_A=y # one\n", "f");
  assertEquals(joinFragments([part]).length, 1);
  const error = assertThrows(() => joinFragments([part, part]), GatewayError);
  assertEquals(error.why, "CONFIG_A is in two of them");
});

Deno.test("toKconfig() leaves reasons out and spells n as kconfig does", () => {
  const options = parseFragment("CONFIG_A=y # one\nCONFIG_B=n # two\n", "f");
  assertEquals(toKconfig(options), "CONFIG_A=y\n# CONFIG_B is not set\n");
});

Deno.test("findMismatches() finds what is off, other, or on against the wish", () => {
  const options = parseFragment(
    'CONFIG_A=y # a\nCONFIG_B=y # b\nCONFIG_C=n # c\nCONFIG_D="d" # d\nCONFIG_E=n # e\nCONFIG_F=3 # f\n',
    "f",
  );
  const config = parseConfig(
    '# CONFIG_B is not set\nCONFIG_A=y\nCONFIG_C=y\nCONFIG_D="d"\nCONFIG_F=4\n',
  );
  assertEquals(
    findMismatches(options, config).map(({ option, found }) => [option.name, found]),
    [["CONFIG_B", undefined], ["CONFIG_C", "y"], ["CONFIG_F", "4"]],
  );
});

const KCONFIG = `if NET
config OTHER
	bool "other"
if BRIDGE && INET
config WANTED
	tristate "wanted"
	depends on NETFILTER && (IPV6 || IPV6=n)
	depends on !BROKEN
	select LIB
	help
	  depends on nothing that is written here
config NEXT
	depends on MODULES
endif
endif
`;

Deno.test("unmetDependencies() finds depends on lines and if blocks that are off", () => {
  const config = parseConfig("CONFIG_NET=y\nCONFIG_INET=y\nCONFIG_IPV6=y\nCONFIG_BROKEN=y\n");
  assertEquals(unmetDependencies(KCONFIG, "CONFIG_WANTED", config).slice(0, 3), [
    "BRIDGE",
    "NETFILTER",
    "!BROKEN",
  ]);
});

Deno.test("unmetDependencies() is empty for an option the text does not define", () => {
  assertEquals(unmetDependencies(KCONFIG, "CONFIG_NONE", new Map()), []);
  assertEquals(definesOption(KCONFIG, "CONFIG_NONE"), false);
  assertEquals(definesOption(KCONFIG, "CONFIG_WANTED"), true);
});

Deno.test("describeMismatch() says what was asked, what is there and what it needs", () => {
  const option = parseFragment("CONFIG_A=y # a\n", "f")[0]!;
  assertEquals(
    describeMismatch({ option, found: undefined }, ["NET", "INET"]),
    "CONFIG_A=y is not set (it needs NET, INET)",
  );
  assertEquals(describeMismatch({ option, found: "4" }, []), "CONFIG_A=y is 4");
});

Deno.test("every option of the x86_64 kernel has one reason and no module", async () => {
  const options = await kernelOptions("amd64");
  assertEquals(options.length > 300, true);
  assertEquals(options.filter(({ reason }) => reason.length < 3), []);
});

Deno.test("every fragment file parses and joins with the general ones", async () => {
  const read = async (name: string) =>
    parseFragment(await Deno.readTextFile(new URL(`fragment/${name}`, here)), name);
  const general = [await read("common.config"), await read("network.config")];
  const names = (await Array.fromAsync(Deno.readDir(new URL("fragment", here)))).map((e) => e.name);
  assertEquals(names.sort(), ["arm64.config", "common.config", "network.config", "x86_64.config"]);
  for (const name of ["arm64.config", "x86_64.config"]) {
    joinFragments([...general, await read(name)]);
  }
});

Deno.test("every option of the capabilities is in the fragment", async () => {
  const text = await Deno.readTextFile(new URL("capabilities.tsv", here));
  const rows = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split("\t"));
  assertEquals(rows.every((row) => row.length === 4 && row[3]!.length > 3), true);
  const built = new Set(
    (await kernelOptions("amd64")).filter(({ value }) => value === "y").map(({ name }) => name),
  );
  const wanted = rows.flatMap((row) => row[2]!.split(" "));
  assertEquals(wanted.filter((name) => !built.has(name)), []);
  assertEquals(wanted.length > 60, true);
});
