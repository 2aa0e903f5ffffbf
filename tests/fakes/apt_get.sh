#!/bin/sh
# apt-get for tests: notes each call, and `install` makes the programs that the file `brings` names. Only what the shell
# has built in, since it is alone on PATH. With the pipes `begun` and `proceed` an installation says that it has begun and
# waits.
here=${0%/*}
echo "$DEBIAN_FRONTEND $*" >>"$here/calls"
if [ -e "$here/refuse" ]; then
  while IFS= read -r line || [ -n "$line" ]; do echo "$line" >&2; done <"$here/refuse"
  exit 100
fi
case " $* " in
*" --download-only "*) ;;
*" install "*)
  if [ -e "$here/begun" ]; then
    echo begun >"$here/begun"
    read -r _ <"$here/proceed" || :
  fi
  read -r names <"$here/brings" || :
  for name in $names; do : >"$here/$name"; done
  ;;
esac
