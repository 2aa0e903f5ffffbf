/**
 * HelmChart objects in a running cluster, by real charts in the guest's server/manifests: install, upgrade, a chart that
 * does not render, and removal. The instance goes on from the golden state, so most of the time is helm's own.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { stringify } from "yaml";
import { packTar } from "../../bootstrap/payload/tar.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome, withEvidence } from "../vm/harness.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const BUILD_TIMEOUT_MS = 75 * 60_000;
const UP_TIMEOUT_MS = 20 * 60_000;
/** A job's pod, helm and a pod of the chart, under emulation. */
const CHART_TIMEOUT_MS = 10 * 60_000;
const MANIFESTS = "/var/lib/rancher/k3s/server/manifests";
const RELEASE_HASH = "helmcharts.helm.cattle.io/configHash";
const ERROR_ANNOTATION = "helm.gateway.local/error";
const NOT_RENDERING = `{{ fail "a colour is needed" }}\n`;

const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  selector: { matchLabels: { app: {{ .Release.Name }} } }
  template:
    metadata: { labels: { app: {{ .Release.Name }} } }
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: gateway.local/busybox:1.37
        command: [sleep, "1000000"]
        env: [{ name: COLOUR, value: {{ .Values.colour | quote }} }]
`;

/** A chart as base64 of its .tgz. */
async function chart(version: string, template: string): Promise<string> {
  const file = (path: string, text: string) => ({
    name: `web/${path}`,
    mode: 0o644,
    data: new TextEncoder().encode(text),
  });
  const tar = await packTar([
    file("Chart.yaml", `apiVersion: v2\nname: web\nversion: ${version}\n`),
    file("values.yaml", "colour: red\n"),
    file("templates/deployment.yaml", template),
  ]);
  const packed = new Blob([tar as BlobPart]).stream().pipeThrough(new CompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(packed).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}

/** The object that an auto-deploy file holds. */
function helmChart(name: string, chartContent: string, more: Record<string, unknown> = {}) {
  return stringify({
    apiVersion: "helm.cattle.io/v1",
    kind: "HelmChart",
    metadata: { name, namespace: "kube-system" },
    spec: { chartContent, targetNamespace: "charts", createNamespace: true, ...more },
  });
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly message?: string;
}

/** One HelmChart's life seen from outside. */
class Charts {
  readonly client: Client;

  constructor(readonly home: TestHome) {
    this.client = new Client(home);
  }

  async write(file: string, text: string): Promise<void> {
    const path = `${MANIFESTS}/${file}`;
    const script = `cat > ${path}.part && mv ${path}.part ${path}`;
    await this.home.ok(["exec", "--", "sh", "-c", script], { stdin: text });
  }

  // deno-lint-ignore no-explicit-any
  async get(kind: string, name: string, namespace: string): Promise<any> {
    const words = ["get", kind, name, "-n", namespace, "--ignore-not-found", "-o", "json"];
    const { stdout } = await this.home.ok(["kubectl", "--", ...words]);
    return stdout.trim() === "" ? undefined : JSON.parse(stdout);
  }

  async condition(name: string): Promise<Condition | undefined> {
    const conditions = (await this.get("helmchart", name, "kube-system"))?.status?.conditions;
    return conditions?.find(({ type }: Condition) => type === "Failed");
  }

  /** Waits for a ready Deployment with that colour. */
  async colour(name: string, colour: string): Promise<void> {
    await waitFor({
      what: `the Deployment ${name} in ${colour}`,
      probe: async () => {
        const found = await this.get("deployment", name, "charts");
        const [env] = found?.spec.template.spec.containers[0].env ?? [];
        const rolled = found?.status.observedGeneration === found?.metadata.generation &&
          found?.status.readyReplicas === 1 && found?.status.updatedReplicas === 1;
        return rolled && env?.value === colour ? true : undefined;
      },
      timeoutMs: CHART_TIMEOUT_MS,
      intervalMs: 1000,
    });
  }

  async gone(kind: string, name: string, namespace: string): Promise<void> {
    await waitFor({
      what: `${kind} ${name} to be gone`,
      probe: async () => await this.get(kind, name, namespace) === undefined ? true : undefined,
      timeoutMs: CHART_TIMEOUT_MS,
      intervalMs: 1000,
    });
  }

  /** The release's revisions with the label by which the controller knows that it is done. */
  async revisions(name: string): Promise<number> {
    const list = await this.client.kubectlJson(
      ["get", "secrets", "-n", "charts", "-l", `owner=helm,name=${name}`],
    );
    for (const { metadata } of list.items) {
      assertMatch(metadata.labels[RELEASE_HASH], /^[0-9A-F]+$/);
    }
    return list.items.length;
  }
}

Deno.test("HelmChart objects", async (t) => {
  await using home = await TestHome.make();
  const charts = new Charts(home);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));

  await step("an instance has the image of their jobs", async () => {
    const built = await home.ok(["build", "images", "--json"], { timeoutMs: BUILD_TIMEOUT_MS });
    const rows = JSON.parse(built.stdout) as { artifact: string; path: string }[];
    const archive = rows.find(({ artifact }) => artifact === "image-helm")!.path;
    await home.ok(["up", "--detach", "--port", `${freePort()}:30051`, ...SIZE], {
      timeoutMs: UP_TIMEOUT_MS,
    });
    await home.ok(["exec", "--", "ctr", "-n", "k8s.io", "images", "import", "-"], {
      timeoutMs: CHART_TIMEOUT_MS,
      stdin: await Deno.readFile(archive),
    });
  });

  await step("no part of the controller runs before there is one", async () => {
    const { stdout } = await home.ok(["exec", "--", "cat", "/var/log/k3s.log"]);
    assert(!stdout.includes("starting the helm controller"), stdout.slice(-2000));
    const kinds = await home.ok(["kubectl", "--", "get", "crd", "-o", "name"]);
    assertStringIncludes(kinds.stdout, "helmcharts.helm.cattle.io");
    assertStringIncludes(kinds.stdout, "helmchartconfigs.helm.cattle.io");
  });

  await step("one in server/manifests is installed", async () => {
    await charts.write("web.yaml", helmChart("web", await chart("0.1.0", DEPLOYMENT)));
    await charts.colour("web", "red");
    assertEquals(await charts.revisions("web"), 1);
  });

  await step("changed values upgrade it, and a HelmChartConfig goes over them", async () => {
    const values = { valuesContent: "colour: blue\n" };
    await charts.write("web.yaml", helmChart("web", await chart("0.1.0", DEPLOYMENT), values));
    await charts.colour("web", "blue");
    const config = {
      apiVersion: "helm.cattle.io/v1",
      kind: "HelmChartConfig",
      metadata: { name: "web", namespace: "kube-system" },
      spec: { valuesContent: "colour: green\n" },
    };
    await charts.write("web-config.yaml", stringify(config));
    await charts.colour("web", "green");
    assertEquals(await charts.revisions("web"), 3);
  });

  await step(
    "a chart that does not render tells helm's words, and a better one takes them back",
    async () => {
      const retries = { backOffLimit: 0 };
      const broken = helmChart("broken", await chart("0.1.0", NOT_RENDERING), retries);
      await charts.write("broken.yaml", broken);
      const failed = await waitFor({
        what: "the chart to fail",
        probe: async () => {
          const condition = await charts.condition("broken");
          return condition?.status === "True" && condition.message?.includes("retries")
            ? condition
            : undefined;
        },
        timeoutMs: CHART_TIMEOUT_MS,
        intervalMs: 1000,
      });
      assertMatch(failed.message!, /web\/templates\/deployment\.yaml:1.*a colour is needed/s);
      const chartNow = await charts.get("helmchart", "broken", "kube-system");
      assertStringIncludes(chartNow.metadata.annotations[ERROR_ANNOTATION], "a colour is needed");
      await charts.write(
        "broken.yaml",
        helmChart("broken", await chart("0.2.0", DEPLOYMENT), retries),
      );
      await charts.colour("broken", "red");
      await waitFor({
        what: "the chart to be well",
        probe: async () => {
          const now = await charts.get("helmchart", "broken", "kube-system");
          const well = (await charts.condition("broken"))?.status === "False";
          return well && !(ERROR_ANNOTATION in now.metadata.annotations) ? true : undefined;
        },
        timeoutMs: CHART_TIMEOUT_MS,
      });
    },
  );

  await step("one whose file goes is removed with all that it brought", async () => {
    await home.ok(["exec", "--", "sh", "-c", `rm ${MANIFESTS}/web*.yaml ${MANIFESTS}/broken.yaml`]);
    for (const name of ["web", "broken"]) {
      await charts.gone("helmchart", name, "kube-system");
      await charts.gone("deployment", name, "charts");
      await charts.gone("job", `helm-install-${name}`, "kube-system");
    }
    assertEquals(await charts.revisions("web"), 0);
  });
});
