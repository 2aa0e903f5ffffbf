#!/bin/sh
# apt-get for tests: notes each call, and `install` makes the programs that the file `brings` names. Only what the shell
# has built in, since it is alone on PATH.
here=${0%/*}
echo "$DEBIAN_FRONTEND $*" >>"$here/calls"
if [ -e "$here/refuse" ]; then
  while IFS= read -r line || [ -n "$line" ]; do echo "$line" >&2; done <"$here/refuse"
  exit 100
fi
case " $* " in
*" install "*)
  read -r names <"$here/brings" || :
  for name in $names; do : >"$here/$name"; done
  ;;
esac
