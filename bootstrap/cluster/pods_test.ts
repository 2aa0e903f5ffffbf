import { assertEquals } from "@std/assert";
import { isOwnedBy, secretUse } from "./pods.ts";

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

Deno.test("isOwnedBy() goes by kind and group of the controller, in any version", () => {
  const owned = (...ownerReferences: unknown[]) =>
    isOwnedBy({ metadata: { ownerReferences } } as Parameters<typeof isOwnedBy>[0], [
      "Sandbox.agents.x-k8s.io",
    ]);
  const of = (apiVersion: string, kind = "Sandbox", controller = true) => ({
    ...{ apiVersion, kind, controller },
  });
  assertEquals(owned(of("agents.x-k8s.io/v1alpha1")), true);
  assertEquals(owned(of("agents.x-k8s.io/v1", "Sandbox", false)), false);
  assertEquals(owned(of("other.example/v1")), false);
  assertEquals(owned(of("batch/v1", "Job")), false);
  assertEquals(owned(), false);
});
