import { assertEquals } from "@std/assert";
import { Command } from "@commander-js/extra-typings";
import { arrangeWords, ownWords } from "./command_line.ts";

const root = new Command("gateway").option("-V, --version", "");
root.command("up [args...]", { isDefault: true }).option("--name <name>", "")
  .option("--exec <program>", "").option("--cpus <n>", "").option("-d, --detach", "")
  .option("-p, --port <forward>", "");
for (const name of ["exec <command...>", "kubectl <args...>"]) {
  root.command(name).option("--name <name>", "").option("-t, --tty", "");
}
root.command("status [instance]").option("--name <name>", "").option("--json", "");
root.command("port").command("list").alias("ls").option("--name <name>", "");

/** Words as they are typed, and as the parser gets them. */
const LINES: readonly (readonly [typed: string, arranged: string])[] = [
  ["--exec sh -c x", "up --exec sh -- -c x"],
  ["--exec echo hello --cpus 1 world", "up --exec echo -- hello --cpus 1 world"],
  ["--cpus 1 --exec=echo --exec x", "up --cpus 1 --exec=echo -- --exec x"],
  ["up -dp 1:2 --exec echo -- hi", "up -dp 1:2 --exec echo -- -- hi"],
  ["-p1:2 --exec true", "up -p1:2 --exec true"],
  ["--name --exec", "--name --exec"],
  ["--name x status --json", "status --name x --json"],
  ["--name x port ls", "port list --name x"],
  ["--name=x exec ls -l --exec y", "exec --name=x -- ls -l --exec y"],
  ["exec -t --name x -- ls -l", "exec -t --name x -- ls -l"],
  ["exec ls -- -l", "exec -- ls -- -l"],
  ["kubectl get pods --json", "kubectl -- get pods --json"],
  ["kubectl --name x -n y get pods", "kubectl --name x -- -n y get pods"],
  ["kubectl --help", "kubectl --help"],
  ["exec --nonsense ls", "exec --nonsense -- ls"],
  ["status exec x", "status exec x"],
  ["frobnicate --exec x", "frobnicate --exec x"],
  ["--cpus 2", "--cpus 2"],
];

for (const [typed, arranged] of LINES) {
  Deno.test(`arrangeWords() of "${typed}" is "${arranged}"`, () => {
    assertEquals(arrangeWords(root, typed.split(" ")).join(" "), arranged);
  });
}

Deno.test("ownWords() ends where a program's words begin", () => {
  assertEquals(ownWords(arrangeWords(root, ["exec", "ls", "--json"])), ["exec"]);
  assertEquals(ownWords(["status", "--json"]), ["status", "--json"]);
});
