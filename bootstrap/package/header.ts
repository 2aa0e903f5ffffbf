/**
 * The shell text at the start of the one file: it unpacks what follows it, once, and becomes the runtime.
 * It must not need more than Debian's essential packages (dash, coreutils, findutils, diffutils, tar, util-linux) or what
 * comes with macOS, nor anything of the user's but a cache folder. Not run on a Mac so far.
 *
 * @module
 */
import { BUNDLE_FLAGS } from "../run/self.ts";

/** One piece of the file, after the header. */
export interface Part {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** What the header is told. */
export interface HeaderFacts {
  readonly version: string;
  /** Where its runtime runs, as `uname -sm` says it. */
  readonly system: string;
  /** Names the folder that it unpacks into. */
  readonly key: string;
  /** The runtime's program, stored as it is: unpacking costs a copy. */
  readonly runtime: Part;
  /** A tar of the program. */
  readonly app: Part;
}

/** What the two systems say differently. */
interface Words {
  /** Prints where the file runs, as {@linkcode HeaderFacts.system}. */
  readonly system: string;
  /** Prints name, inode, size, mode and the time of the last change of the files below `.`, with parts of a second. */
  readonly now: string;
  /** Compares files with the digests in `sums`. */
  readonly compare: string;
  /** Lines that wait for the lock of `$top`, which goes with the process. */
  readonly lock: string;
  /** Lines that return whether a process runs the runtime in `$1`. */
  readonly running: string;
}

const LINUX: Words = {
  system: "uname -sm",
  now: `find . -type f -printf '%p %i %s %m %C@\\n'`,
  compare: "sha256sum --status -c sums",
  lock: `  exec 9>"$top/lock"
  flock 9`,
  running: `  for exe in /proc/[0-9]*/exe; do
    [ "$exe" -ef "$1/deno" ] && return
  done
  return 1`,
};

const DARWIN: Words = {
  // A shell under Rosetta calls the machine an Intel one, and starts programs for its real processor all the same.
  system:
    `uname -sm | if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null)" = 1 ]; then sed s/x86_64/arm64/; else cat; fi`,
  now: `find . -type f -exec stat -f '%N %i %z %p %Fc' {} +`,
  compare: "shasum -a 256 --status -c sums",
  // There is no flock. A holder that was killed is gone; one that was killed before it said who it is, is given a minute.
  lock: `  tries=0
  until mkdir "$top/lock" 2>/dev/null; do
    holder=$(cat "$top/lock/pid" 2>/dev/null)
    tries=$((tries + 1))
    if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null || [ $tries -gt 600 ]; then rm -rf "$top/lock"; fi
    sleep 0.1
  done
  trap 'rm -rf "$tmp" "$top/lock"' EXIT
  printf %s $$ >"$top/lock/pid"`,
  running: `  case $(ps -axww -o command=) in
    *"$1/deno "*) return 0 ;;
  esac
  return 1`,
};

/** The header's length, after which the runtime begins; the rest is filled with line ends, so that offsets do not depend on it. */
export const HEADER_BYTES = 8192;

/** The header. */
export function headerText(facts: HeaderFacts): string {
  const { version, key, system, runtime, app } = facts;
  const words = system.startsWith("Darwin") ? DARWIN : LINUX;
  const runtimeAt = HEADER_BYTES + 1;
  const appAt = runtimeAt + runtime.sizeBytes;
  const text = `#!/bin/sh
# gateway ${version} in one file. After this text: a runtime, a tar with the program, and what may be embedded.
# It unpacks itself once into a folder of the user's cache, named by its digest, and looks at each start whether
# that folder is still as it was left.
refuse() {
  printf 'error: Cannot unpack gateway\\n  why: %s\\n  fix: %s\\n' "$1" "$2" >&2
  exit 1
}
case \${XDG_CACHE_HOME:-} in
  /*) cache=$XDG_CACHE_HOME ;;
  *)
    [ -n "\${HOME:-}" ] || refuse 'HOME is not set' 'set HOME, or set XDG_CACHE_HOME'
    cache=$HOME/.cache
    ;;
esac
case $0 in
  /*) GATEWAY_FILE=$0 ;;
  *) GATEWAY_FILE=$PWD/$0 ;;
esac
top=$cache/gateway/file
dir=$top/${key}
stamp=$top/${key}.stamp
# Its time says when this version was used last.
{ true >"$top/${key}.used"; } 2>/dev/null

# Any write to a file changes its ctime, a new one its inode: what is as the stamp says was not touched.
now() {
  (cd "$dir" && LC_ALL=C ${words.now}) 2>/dev/null
}
good() {
  [ -f "$stamp" ] && [ -f "$dir/deno" ] && now | cmp -s - "$stamp"
}
part() {
  tail -c "+$1" "$GATEWAY_FILE" | head -c "$2"
}
full() {
  refuse "$tmp cannot be written: $(df -h "$top" 2>/dev/null | tail -n 1)" \\
    'free space there, or set XDG_CACHE_HOME to another folder'
}
unpack() {
  here=$(${words.system})
  [ "$here" = '${system}' ] ||
    refuse "this file is for ${system}, and this is $here" 'get the file for this system'
  umask 077
  tmp=$top/.new-$$
  why=$({ mkdir -p "$top" && chmod 700 "$top" && rm -rf "$tmp" && mkdir "$tmp"; } 2>&1) ||
    refuse "$top cannot be written: $why" 'set XDG_CACHE_HOME to a folder that you can write to'
  trap 'rm -rf "$tmp"' EXIT
  trap 'exit 130' HUP INT TERM
  part ${runtimeAt} ${runtime.sizeBytes} 2>/dev/null >"$tmp/deno" || full
  part ${appAt} ${app.sizeBytes} 2>/dev/null >"$tmp/app.tar" || full
  printf '%s  %s\\n' ${runtime.sha256} deno ${app.sha256} app.tar >"$tmp/sums" || full
  (cd "$tmp" && ${words.compare}) 2>/dev/null ||
    refuse "$GATEWAY_FILE is cut or changed: its bytes do not have the digests in it" 'get the file again'
  tar -xf "$tmp/app.tar" --no-same-owner -C "$tmp" || full
  rm "$tmp/app.tar" "$tmp/sums"
  chmod 700 "$tmp/deno"
  # Two first runs at a time: the second finds what the first made.
${words.lock}
  if ! good; then
    [ ! -e "$dir" ] || mv "$dir" "$top/.old-$$"
    mv "$tmp" "$dir" && now >"$stamp.new" && mv "$stamp.new" "$stamp" || full
  fi
  for old in "$top"/.new-* "$top"/.old-*; do
    kill -0 "\${old##*-}" 2>/dev/null || rm -rf "$old"
  done
  rm -rf "$top/.old-$$"
  sweep
}
running() {
${words.running}
}
# The two versions used last stay, and any that runs.
sweep() {
  true >"$top/${key}.used"
  (cd "$top" && ls -t -- *.used) | tail -n +3 | while read -r used; do
    old=$top/\${used%.used}
    running "$old" || rm -rf "$old" "$old.stamp" "$old.used"
  done
}
good || (unpack) || exit
[ -x "$dir/deno" ] ||
  refuse "$dir/deno may not be run: its file system is mounted noexec" \\
    'set XDG_CACHE_HOME to a folder on another file system'
# The runtime's own cache would else be a folder of a program that the user never installed.
export GATEWAY_FILE DENO_DIR="\${DENO_DIR:-$top/deno}" DENO_NO_UPDATE_CHECK=1
exec "$dir/deno" ${BUNDLE_FLAGS.join(" ")} "$dir/bundle/cli.js" "$@"
`;
  if (text.length > HEADER_BYTES) throw new Error(`the header has ${text.length} bytes`);
  return text.padEnd(HEADER_BYTES, "\n");
}
