/**
 * All cases of the kill table in one world, each a step of a test.
 *
 * @module
 */
import { type Act, caseName, runCase } from "./run_case.ts";
import { type Point, TABLE } from "./table.ts";
import type { World } from "./world.ts";

/** Runs the cases of these kinds that the world can have; GATEWAY_KILLS is a pattern of the names of those wanted. */
export async function runTable(
  t: Deno.TestContext,
  world: World,
  kinds: readonly Act["kind"][],
  { cut = noPower, only = /^/, each = "act" }: {
    readonly cut?: () => Promise<void>;
    readonly only?: RegExp;
    /** "point": at each point one of its acts, in turns, so that each kind has some. */
    readonly each?: "act" | "point";
  } = {},
): Promise<void> {
  const wanted = new RegExp(Deno.env.get("GATEWAY_KILLS") ?? "");
  let points = 0;
  for (const deed of TABLE) {
    for (const point of deed.points) {
      const all = kinds.flatMap((kind) => actsOf(kind, point, cut));
      const acts = each === "act" ? all : all.slice(points % all.length).slice(0, 1);
      points++;
      for (const act of acts) {
        const name = caseName(deed, point, act);
        const possible = world.standIn !== undefined || !(point.at.standIn || deed.builds);
        if (!possible || !wanted.test(name) || !only.test(name)) continue;
        await t.step(name, async () => {
          try {
            await runCase(world, deed, point, act);
          } catch (error) {
            // The next case is not to fail for what this one has left.
            for (const left of ["clone", "default"]) {
              await world.home.call(["rm", "--force", left], { timeoutMs: 120_000 });
            }
            throw error;
          }
        });
      }
    }
  }
}

const noPower = () => Promise.reject(new Error("no power to cut here"));

function actsOf(kind: Act["kind"], point: Point, cut: () => Promise<void>): Act[] {
  if (kind === "kill") return point.victims.map((victim) => ({ kind, victim }));
  // What stops the source of a build is tried by the instance that waits for it.
  if (point.of === "golden") return [];
  if (kind === "down" && point.unknown) return [];
  return kind === "power" ? [{ kind, cut }] : [{ kind }];
}
