/**
 * The stand-ins for OpenShell's programs, built and kept like the product's own: images of its gateway, its supervisor
 * and agent-sandbox's controller, and its client for this host.
 * It must not reach a registry.
 *
 * @module
 */
import { imageRecipe, packerRecipe } from "../../../rootfs/images/images.ts";
import { hostArch } from "../../../vm/base/arch.ts";
import { silentSpan } from "../../../vm/base/event.ts";
import { sourcePath } from "../../../vm/base/source.ts";
import { ArtifactStore, type Recipe } from "../../../vm/store/artifact.ts";
import { goRecipe } from "../../../vm/store/go_recipe.ts";

/** The user's own store, found before a test changes HOME. */
const STORE = new ArtifactStore();
const ARCH = hostArch();
const OPTIONS = { span: silentSpan(), signal: new AbortController().signal, assumeYes: true };

/** kubenode is built with the same, and Kubernetes' packages are compiled once for both. */
const SHARED = {
  moduleDir: sourcePath("tests/fakes/openshell/standin"),
  experiments: ["nogreenteagc"],
};

const programRecipe = (name: string) =>
  goRecipe({
    ...SHARED,
    name: `standin-${name}`,
    label: `stand-in for ${name}`,
    programs: [{ pkg: `./cmd/${name}`, output: name }],
    arch: ARCH,
  });

/** Paths of OCI archives. */
export interface ProgramImages {
  readonly gateway: string;
  readonly supervisor: string;
  readonly controller: string;
}

/** Program, where it lies in its image, and who runs it. */
const IMAGES: Readonly<Record<keyof ProgramImages, readonly [string, string, string]>> = {
  gateway: ["openshell-gateway", "usr/local/bin/openshell-gateway", "1000:1000"],
  supervisor: ["openshell-sandbox", "openshell-sandbox", ""],
  controller: ["agent-sandbox-controller", "agent-sandbox-controller", "65532:65532"],
};

async function programImage(role: keyof ProgramImages, packer: Recipe): Promise<string> {
  const [program, path, user] = IMAGES[role];
  const recipe = imageRecipe({
    name: `standin-${role}`,
    image: `standin.test/${role}:1`,
    label: `stand-in image ${role}`,
    program: await programRecipe(program),
    layer: [{ path, from: program }],
    entrypoint: [`/${path}`],
    user,
    arch: ARCH,
    packer,
    assumeYes: true,
  });
  const { files } = await STORE.ensure(recipe, OPTIONS);
  return files[`standin-${role}.tar`]!.path;
}

/** Builds the images that are not there yet, one after the other, since Go uses all processors. */
export async function programImages(): Promise<ProgramImages> {
  const packer = await packerRecipe();
  const gateway = await programImage("gateway", packer);
  const supervisor = await programImage("supervisor", packer);
  return { gateway, supervisor, controller: await programImage("controller", packer) };
}

/** The client, a program for this host. */
export async function openshellClient(): Promise<string> {
  const recipe = await goRecipe({
    ...SHARED,
    name: "standin-openshell",
    label: "stand-in for OpenShell's client",
    programs: [{ pkg: "./cmd/openshell", output: "openshell" }],
    arch: ARCH,
    goos: Deno.build.os === "darwin" ? "darwin" : "linux",
  });
  return (await STORE.ensure(recipe, OPTIONS)).files.openshell!.path;
}
