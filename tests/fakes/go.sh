#!/bin/sh
# Go for tests: `go env GOVERSION` prints the file `version` beside it; `go build` writes its arguments and environment
# to the output, or fails with the text of the file `refuse`. It knows no experiment but nogreen.
here=$(dirname "$0")
case ${GOEXPERIMENT:-nogreen} in
  nogreen) ;;
  *) exit 2 ;;
esac
if [ "$1" = env ]; then
  cat "$here/version"
  exit 0
fi
if [ -e "$here/refuse" ]; then
  cat "$here/refuse" >&2
  exit 1
fi
for word in "$@"; do
  [ "$last" = -o ] && output=$word
  last=$word
done
{
  printf 'arg %s\n' "$@"
  env | grep -E '^(CGO|GO)' | sort
  pwd
} >"$output"
