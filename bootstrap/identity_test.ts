import { assertEquals } from "@std/assert";
import { secretUse } from "./identity.ts";

const secrets = new Set(["tls"]);

Deno.test("secretUse() sees Secrets in files, in projected files and in variables", () => {
  const use = (spec: Parameters<typeof secretUse>[0]["spec"]) => secretUse({ spec }, secrets);
  assertEquals(use({}), "none");
  assertEquals(use({ volumes: [{ secret: { secretName: "other" } }] }), "none");
  assertEquals(use({ volumes: [{ secret: { secretName: "tls" } }] }), "files");
  assertEquals(
    use({ volumes: [{ projected: { sources: [{ secret: { name: "tls" } }] } }] }),
    "files",
  );
  const env = [{ valueFrom: { secretKeyRef: { name: "tls" } } }];
  assertEquals(
    use({ volumes: [{ secret: { secretName: "tls" } }], containers: [{ env }] }),
    "variables",
  );
  assertEquals(
    use({ initContainers: [{ envFrom: [{ secretRef: { name: "tls" } }] }] }),
    "variables",
  );
});
