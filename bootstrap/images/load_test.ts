import { assertEquals } from "@std/assert";
import { imagesText } from "../commands/image_load.ts";
import { parseImages } from "./load.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const TABLE =
  `REF                          TYPE                                       DIGEST   SIZE      PLATFORMS   LABELS
gateway.local/demo:1         application/vnd.oci.image.manifest.v1+json ${DIGEST} 6.1 MiB   linux/amd64 io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned
ghcr.io/x/y@${DIGEST} application/vnd.oci.image.index.v1+json ${DIGEST} 812.0 KiB linux/amd64,linux/arm64/v8 -
${DIGEST}                    application/vnd.oci.image.manifest.v1+json ${DIGEST} 6.1 MiB   linux/amd64 io.cri-containerd.image=managed
`;

Deno.test("parseImages() reads containerd's table", () => {
  assertEquals(parseImages(TABLE), [
    {
      ref: "gateway.local/demo:1",
      digest: DIGEST,
      size: "6.1 MiB",
      platforms: ["linux/amd64"],
      pinned: true,
    },
    {
      ref: `ghcr.io/x/y@${DIGEST}`,
      digest: DIGEST,
      size: "812.0 KiB",
      platforms: ["linux/amd64", "linux/arm64/v8"],
      pinned: false,
    },
  ]);
});

Deno.test("imagesText() has one line for each image", () => {
  const lines = imagesText(parseImages(TABLE)).split("\n");
  assertEquals(lines[0]?.endsWith("     6.1 MiB  abababababab"), true, lines[0]);
  assertEquals(lines.length, 2);
});
