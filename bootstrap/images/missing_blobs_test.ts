import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { digestBytes } from "../../vm/base/digest.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { packTar, readTar } from "../payload/tar.ts";
import { withoutBlobs } from "./missing_blobs.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const blob = (text: string) => ({
  name: `blobs/sha256/${digestBytes(text)}`,
  data: bytes(text),
  mode: 0o644,
});
const INDEX = { name: "index.json", data: bytes("{}"), mode: 0o644 };

async function namesIn(stream: ReadableStream<Uint8Array>): Promise<string[]> {
  return (await readTar(await new Response(stream as BodyInit).bytes())).map(({ name }) => name);
}

Deno.test("withoutBlobs() leaves out what the guest has and nothing else", async () => {
  const [kept, omitted] = [blob("kept"), blob("omitted")];
  const unlike = { ...blob("omitted"), name: `other/sha256/${digestBytes("omitted")}` };
  const archive = await packTar([INDEX, omitted, kept, unlike]);
  const has = new Set([`sha256:${digestBytes("omitted")}`]);
  const { stream, report } = withoutBlobs(new Blob([archive as BlobPart]).stream(), has);
  const found = await readTar(await new Response(stream as BodyInit).bytes());
  assertEquals(found.map(({ name, data }) => [name, new TextDecoder().decode(data)]), [
    ["index.json", "{}"],
    [kept.name, "kept"],
    [unlike.name, "omitted"],
  ]);
  assertEquals([...report.omitted], [...has]);
  assertEquals(report.readBytes, archive.length);
});

Deno.test("withoutBlobs() passes large blobs on in pieces", async () => {
  const large = "x".repeat(3_000_000);
  const archive = await packTar([blob(large), INDEX]);
  let pulled = 0;
  const source = new ReadableStream<Uint8Array>({
    pull(sink) {
      if (pulled >= archive.length) sink.close();
      else sink.enqueue(archive.slice(pulled, pulled += 65_536));
    },
  }, { highWaterMark: 0 });
  const { stream } = withoutBlobs(source, new Set());
  const reader = stream.getReader();
  await reader.read();
  assert(pulled < 1_000_000, `${pulled} bytes were read for the first piece`);
  await reader.cancel();
});

Deno.test("withoutBlobs() refuses what is not a whole tar archive", async () => {
  const whole = await packTar([blob("x".repeat(5000))]);
  for (const archive of [bytes("no archive\n".repeat(1000)), whole.slice(0, 2000)]) {
    const { stream } = withoutBlobs(new Blob([archive as BlobPart]).stream(), new Set());
    const error = await assertRejects(() => namesIn(stream), GatewayError);
    assertEquals(error.code, "usage");
    assertStringIncludes(error.why, "not a whole tar archive");
  }
});

Deno.test("withoutBlobs() ends its source when it is not read to the end", async () => {
  let cancelled = false;
  const archive = await packTar([blob("x".repeat(1_000_000))]);
  const source = new ReadableStream<Uint8Array>({
    pull: (sink) => sink.enqueue(archive.slice(0, 512)),
    cancel: () => void (cancelled = true),
  });
  const { stream } = withoutBlobs(source, new Set());
  const reader = stream.getReader();
  await reader.read();
  await reader.cancel();
  assert(cancelled, "the source goes on");
});
