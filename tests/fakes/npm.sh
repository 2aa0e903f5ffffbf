#!/bin/sh
# npm of which only `pack NAME@VERSION` is there: it gives the archive beside it, under npm's name for it.
eval "word=\${$#}"
version=${word##*@}
name=$(printf %s "${word%@*}" | sed 's/^@//; s,/,-,')
cp "$(dirname "$0")/package.tgz" "$name-$version.tgz"
