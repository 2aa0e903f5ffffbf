import { assert, assertEquals, assertThrows } from "@std/assert";
import { debianPackages, goProgram, spdxDocument } from "./sbom.ts";

const STATUS = `Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: runc
Status: install ok installed
Architecture: amd64
Version: 1.1.15+ds1-2+b4
Depends: libc6 (>= 2.34)
`;

const INFO = JSON.stringify({
  GoVersion: "go1.26.8",
  Path: "gateway.local/agent",
  Main: { Path: "gateway.local/agent", Version: "(devel)" },
  Deps: [
    { Path: "golang.org/x/sys", Version: "v0.43.0", Sum: "h1:x=" },
    { Path: "k8s.io/api", Version: "v0.0.0", Replace: { Path: "k8s.io/api", Version: "v0.37.2" } },
  ],
});

Deno.test("debianPackages() lists what is installed, with version and architecture", () => {
  assertEquals(debianPackages(STATUS), [
    { name: "libc6", version: "2.41-12", arch: "amd64" },
    { name: "runc", version: "1.1.15+ds1-2+b4", arch: "amd64" },
  ]);
});

Deno.test("goProgram() reads the build info and takes what a module was replaced by", () => {
  assertEquals(goProgram("/a", INFO), {
    path: "/a",
    goVersion: "go1.26.8",
    modules: [
      { path: "gateway.local/agent", version: "(devel)" },
      { path: "golang.org/x/sys", version: "v0.43.0" },
      { path: "k8s.io/api", version: "v0.37.2" },
    ],
  });
  assertEquals(goProgram("/b", '{"GoVersion":"go1.24","Main":{}}').modules, []);
  assertThrows(() => goProgram("/c", "{}"));
});

Deno.test("spdxDocument() has every part once, well-formed identifiers and no loose end", () => {
  const programs = [goProgram("/usr/lib/gateway/agent", INFO), goProgram("coredns:/coredns", INFO)];
  const parts = { arch: "amd64" as const, packages: debianPackages(STATUS), programs };
  const document = spdxDocument(parts) as {
    spdxVersion: string;
    SPDXID: string;
    creationInfo: { created: string };
    packages: { SPDXID: string; name: string; versionInfo?: string; externalRefs?: object[] }[];
    relationships: {
      spdxElementId: string;
      relationshipType: string;
      relatedSpdxElement: string;
    }[];
  };
  assertEquals([document.spdxVersion, document.SPDXID], ["SPDX-2.3", "SPDXRef-DOCUMENT"]);
  assert(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(document.creationInfo.created));
  const ids = document.packages.map(({ SPDXID }) => SPDXID);
  assertEquals(ids.filter((id) => !/^SPDXRef-[A-Za-z0-9.-]+$/.test(id)), []);
  // The image, two packages, two programs, and four modules that both programs share.
  assertEquals([ids.length, new Set(ids).size], [9, 9]);
  const known = new Set([...ids, "SPDXRef-DOCUMENT"]);
  assertEquals(
    document.relationships.filter((one) =>
      !known.has(one.spdxElementId) || !known.has(one.relatedSpdxElement)
    ),
    [],
  );
  const purls = JSON.stringify(document.packages);
  assert(purls.includes("pkg:deb/debian/runc@1.1.15%2Bds1-2%2Bb4?arch=amd64"));
  assert(purls.includes("pkg:golang/golang.org/x/sys@v0.43.0"));
  assert(purls.includes("pkg:golang/stdlib@1.26.8"));
  assertEquals(JSON.stringify(spdxDocument(parts)), JSON.stringify(document));
});
