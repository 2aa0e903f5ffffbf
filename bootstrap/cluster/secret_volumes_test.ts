import { assertEquals } from "@std/assert";
import type { Pod } from "./pods.ts";
import { placementLines } from "./secret_volumes.ts";

const pod = (volumes: Pod["spec"]["volumes"], namespace = "shop") =>
  ({ metadata: { name: "p", namespace, uid: "0-1-2" }, spec: { volumes } }) as unknown as Pod;
const tls = { name: "shop-tls", namespace: "shop" };
const secrets = [{ metadata: tls, data: { "tls.crt": "QQ==", "tls.key": "Qg==" } }];

Deno.test("placementLines() has a line for each file of a pod's volumes of these Secrets", () => {
  const own = { name: "tls", secret: { secretName: "shop-tls" } };
  assertEquals(
    placementLines([pod([own, { name: "x", secret: { secretName: "other" } }, {}])], secrets),
    "0-1-2 tls tls.crt QQ==\n0-1-2 tls tls.key Qg==\n",
  );
  const items = [{ key: "tls.crt", path: "server.pem" }, { key: "none", path: "none" }];
  const listed = pod([{ name: "tls", secret: { secretName: "shop-tls", items } }]);
  assertEquals(placementLines([listed], secrets), "0-1-2 tls server.pem QQ==\n");
  assertEquals(placementLines([pod([own], "elsewhere")], secrets), "");
});

Deno.test("placementLines() leaves what is no plain name to kubelet", () => {
  const to = (path: string) => [{ key: "tls.crt", path }];
  for (const path of ["../../etc/passwd", "..", "a b", "a\nb", "deep/er", ""]) {
    const one = pod([{ name: "tls", secret: { secretName: "shop-tls", items: to(path) } }]);
    assertEquals(placementLines([one], secrets), "", path);
  }
  const odd = pod([{ name: "../tls", secret: { secretName: "shop-tls" } }]);
  assertEquals(placementLines([odd], secrets), "");
});
