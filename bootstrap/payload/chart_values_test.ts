import { assertEquals } from "@std/assert";
import { gzipSync } from "node:zlib";
import { unknownValues } from "./chart_values.ts";
import { packTar } from "./tar.ts";

async function chart(files: Readonly<Record<string, string>>): Promise<Uint8Array> {
  const entries = Object.entries(files).map(([name, text]) => ({
    name: `openshell/${name}`,
    data: new TextEncoder().encode(text),
    mode: 0o644,
  }));
  return new Uint8Array(gzipSync(await packTar(entries)));
}

const VALUES_YAML = `
gateway:
  image: {repository: x, tag: ""}
service: {type: ClusterIP}
resources: {}
nothing: null
tls: {}
`;
const TEMPLATE = `
image: {{ .Values.gateway.image.repository }}:{{ .Values.gateway.image.tag }}
nodePort: {{ .Values.service.nodePort }}
{{- with .Values.probes }}
timeoutSeconds: {{ .timeoutSeconds }}
{{- end }}
{{ index .Values "odd-name" }}
`;

Deno.test("unknownValues() names values that the chart has renamed or never had", async () => {
  const archive = await chart({
    "Chart.yaml": "name: openshell\nversion: 1.0.0\n",
    "values.yaml": VALUES_YAML,
    "templates/a.yaml": TEMPLATE,
  });
  const unknown = (values: Parameters<typeof unknownValues>[1]) => unknownValues(archive, values);
  assertEquals(await unknown({ image: { tag: "1" }, service: { typ: "NodePort" } }), [
    "image",
    "service.typ",
  ]);
  assertEquals(await unknown({ gateway: { image: { tag: "1", pulPolicy: "Never" } } }), [
    "gateway.image.pulPolicy",
  ]);
});

Deno.test("unknownValues() takes what only a template has, and what stands below an empty default", async () => {
  const archive = await chart({
    "Chart.yaml":
      "name: openshell\nversion: 1.0.0\ndependencies: [{name: postgres, alias: database}]\n",
    "values.yaml": VALUES_YAML,
    "templates/a.yaml": TEMPLATE,
    "charts/redis-1.2.3.tgz": "",
    "charts/cache/Chart.yaml": "name: cache\n",
  });
  const known = {
    service: { nodePort: 30051, type: "NodePort" },
    resources: { limits: { cpu: 1 } },
    nothing: { at: "all" },
    probes: { timeoutSeconds: 3 },
    "odd-name": 1,
    global: { any: 1 },
    ...{ postgres: { a: 1 }, database: { a: 1 }, redis: { a: 1 }, cache: { a: 1 } },
  };
  assertEquals(await unknownValues(archive, known), []);
});
