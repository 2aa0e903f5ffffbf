/**
 * The library that makes memory out of layers, in a real process: what it maps, what it saves, what it refuses.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../vm/base/error.ts";
import { checkLayer, trimCode } from "../vm/qemu/ram_layer.ts";
import { Place, type Running } from "./fakes/ram_place.ts";
import { mappedOf } from "./fakes/smaps.ts";

const signal = new AbortController().signal;

Deno.test("a save keeps the memory of its moment, whatever is written while it goes on", async () => {
  await using place = await Place.make();
  const one = await place.start([]);
  assertEquals(one.first, "ready");
  await one.ask("w 3 before");
  const { path, begun } = await one.save("a.layer", "new");
  await one.ask("w 3 after");
  await begun.written;
  await checkLayer(path, 16);
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
  const two = await place.start([path]);
  assertEquals([await two.ask("r 3"), await two.ask("r 4")], ["=before", "="]);
  assertEquals(await one.ask("r 3"), "=after");
});

Deno.test("two that go on from one layer do not see each other, and the layer stays as it is", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  await source.ask("w 0 shared");
  await source.ask("w 4095 end");
  const { path, begun } = await source.save("a.layer", "new");
  await begun.written;
  const bytes = await Deno.readFile(path);
  const [left, right] = [await place.start([path]), await place.start([path])];
  await left.ask("w 0 left");
  assertEquals([await left.ask("r 0"), await right.ask("r 0"), await right.ask("r 4095")], [
    "=left",
    "=shared",
    "=end",
  ]);
  assertEquals(await Deno.readFile(path), bytes);
});

Deno.test("a kept bottom makes the next layer small, and a new one stands alone", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  for (let page = 0; page < 500; page += 1) await source.ask(`w ${page} bottom`);
  const bottom = await source.save("bottom.layer", "new");
  await bottom.begun.written;
  const second = await place.start([bottom.path]);
  await second.ask("w 100 changed");
  const kept = await second.save("kept.layer", "kept");
  await kept.begun.written;
  const alone = await second.save("alone.layer", "new");
  await alone.begun.written;
  const size = async (path: string) => (await Deno.stat(path)).size;
  assert(await size(kept.path) < 16 * 4096, `${await size(kept.path)} bytes`);
  assert(await size(alone.path) > 500 * 4096);
  for (const layers of [[bottom.path, kept.path], [alone.path]]) {
    const third = await place.start(layers);
    assertEquals([await third.ask("r 100"), await third.ask("r 99")], ["=changed", "=bottom"]);
  }
});

Deno.test("a layer that is cut or is none is refused by name", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  await source.ask("w 1 one");
  const { path, begun } = await source.save("a.layer", "new");
  await begun.written;
  await Deno.truncate(path, (await Deno.stat(path)).size - 4096);
  const none = join(place.dir, "none.layer");
  await Deno.writeTextFile(none, "nothing of the kind");
  for (const bad of [path, none, join(place.dir, "absent.layer")]) {
    const user = await place.start([bad]);
    assertEquals([user.first, (await user.exited).code], [undefined, 3]);
    assertStringIncludes(await user.stderr, `memory layer "${bad}"`);
  }
});

Deno.test("a save that cannot be written is told and leaves no file; the process goes on", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  const { begun } = await source.save("no/such/folder.layer", "new");
  const error = await assertRejects(() => begun.written, GatewayError);
  assertEquals(error.code, "vmm-failed");
  assertStringIncludes(error.why, "errno 2");
  assertEquals(await source.ask("w 1 on"), "ok");
});

Deno.test("an adopted layer is shared with who starts from it, and what was changed meanwhile stays", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  for (let page = 0; page < 500; page++) await source.ask(`w ${page} before`);
  const { path, begun } = await source.save("a.layer", "new", true);
  await source.ask("w 100 meanwhile");
  await begun.written;
  await source.ask("w 101 late");
  await source.ask("w 3000 beyond");
  await begun.adopt();
  await source.ask("w 102 after");
  const read = async (who: typeof source, ...pages: number[]) => {
    const found: string[] = [];
    for (const page of pages) found.push((await who.ask(`r ${page}`)).slice(1));
    return found;
  };
  assertEquals(await read(source, 0, 99, 100, 101, 102, 103, 499, 3000), [
    ...["before", "before", "meanwhile", "late", "after", "before", "before", "beyond"],
  ]);
  const clone = await place.start([path]);
  assertEquals(await read(clone, 100, 101, 102, 3000), ["before", "before", "before", ""]);
  const { own } = await mappedOf(source.pid, /a\.layer$/);
  assert(own > 0 && own < 16 * 4096, `${own} bytes of the adopted layer are its own`);

  // What comes next is only what the two layers do not have.
  await source.ask("w 7 again");
  const next = await source.save("b.layer", "changed", true);
  await next.begun.written;
  await next.begun.adopt();
  assert((await Deno.stat(next.path)).size < 64 * 4096, `${(await Deno.stat(next.path)).size}`);
  const second = await place.start([path, next.path]);
  const pages = [0, 7, 100, 101, 102, 499, 3000];
  assertEquals(await read(second, ...pages), await read(source, ...pages));
  // And a save of all has the adopted ones in it.
  const alone = await source.save("alone.layer", "new");
  await alone.begun.written;
  const third = await place.start([alone.path]);
  assertEquals(await read(third, ...pages), await read(source, ...pages));
});

Deno.test("who starts from an adopted layer and the next one has zeros where the source has", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  // A lone page is too little to be adopted.
  for (const page of [...Array(20).keys(), 200]) await source.ask(`w ${page} before`);
  const first = await source.save("a.layer", "new", true);
  await source.ask("z 10");
  await first.begun.written;
  await first.begun.adopt();
  for (const page of [15, 200]) await source.ask(`z ${page}`);
  const next = await source.save("b.layer", "changed");
  await next.begun.written;
  const clone = await place.start([first.path, next.path]);
  for (const page of [9, 10, 11, 15, 200]) {
    assertEquals(await clone.ask(`r ${page}`), [9, 11].includes(page) ? "=before" : "=", `${page}`);
  }
});

Deno.test("whatever is written and when: a clone has what the source had at the moment of its save", async () => {
  await using place = await Place.make();
  const PAGES = 400;
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  let state = seed;
  const below = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % limit;
  };
  const scribble = async (source: Running, times: number) => {
    for (let time = 0; time < times; time++) {
      // Runs of some length, or nothing of a layer would be adopted.
      const from = below(PAGES - 20), end = from + below(20);
      const word = below(3) === 0 ? "z PAGE" : `w PAGE ${below(1000)}`;
      for (let page = from; page < end; page++) {
        await source.ask(word.replace("PAGE", String(page)));
      }
    }
  };
  const origin = await place.start([]);
  await scribble(origin, 20);
  const bottom = await origin.save("bottom.layer", "new");
  await bottom.begun.written;
  const layers = [bottom.path];
  const source = await place.start(layers);
  for (let round = 0; round < 8; round++) {
    await scribble(source, 20);
    const { path, begun } = await source.save(`${round}.layer`, "changed", true);
    const then = await source.ask(`a ${PAGES}`);
    await scribble(source, 5);
    await begun.written;
    await scribble(source, 5);
    await begun.adopt();
    layers.push(path);
    const clone = await place.start(layers);
    assertEquals(await clone.ask(`a ${PAGES}`), then, `round ${round} with the seed ${seed}`);
  }
  for (const mode of ["kept", "new"] as const) {
    const { path, begun } = await source.save(`${mode}.layer`, mode);
    await begun.written;
    const clone = await place.start(mode === "kept" ? [bottom.path, path] : [path]);
    const now = await source.ask(`a ${PAGES}`);
    assertEquals(await clone.ask(`a ${PAGES}`), now, `${mode} with the seed ${seed}`);
  }
});

Deno.test("a layer that nobody adopts in the end leaves the process as it was", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  await source.ask("w 3 before");
  const { path, begun } = await source.save("no/such/folder.layer", "new", true);
  await assertRejects(() => begun.written, GatewayError);
  const { begun: second } = await source.save("b.layer", "new", true);
  await second.written;
  // The file is gone before it can be adopted.
  await Deno.remove(join(place.dir, "b.layer"));
  await assertRejects(() => second.adopt(), GatewayError, "errno 2");
  assertEquals([path.endsWith("folder.layer"), await source.ask("r 3")], [true, "=before"]);
});

Deno.test("the kernel may not merge the guest's memory, neither new nor of layers nor adopted", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  for (let page = 0; page < 100; page++) await source.ask(`w ${page} text`);
  const { path, begun } = await source.save("a.layer", "new", true);
  await begun.written;
  await begun.adopt();
  const clone = await place.start([path]);
  for (const { pid } of [source, clone]) {
    const flags = (await Deno.readTextFile(`/proc/${pid}/smaps`)).matchAll(/^VmFlags: (.*)$/gm);
    const mergeable = [...flags].filter(([, words]) => words!.split(" ").includes("mg"));
    assertEquals(mergeable, []);
  }
});

Deno.test("a library that cannot take a connection pauses before it tries again", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  await source.ask("e 2");
  for (let time = 0; time < 2; time++) {
    await trimCode(source.socket, 0, signal).catch(() => {});
  }
  assertEquals(await trimCode(source.socket, 0, signal), 0);
  assertEquals(await source.ask("p"), "2");
});

Deno.test("a trim waits by a clock that nobody sets", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  await source.ask("t");
  assertEquals(await trimCode(source.socket, 0, signal), 7);
});

Deno.test("a process without translated code has nothing to give back", async () => {
  await using place = await Place.make();
  const source = await place.start([]);
  assertEquals(await trimCode(source.socket, 0, signal), 0);
  assertEquals(await trimCode(join(place.dir, "nobody"), 0, signal), undefined);
});
