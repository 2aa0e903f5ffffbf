#!/bin/sh
# A codesign that only notes what it was asked for and marks the file.
echo "$*" >>"$(dirname "$0")/calls"
for last in "$@"; do :; done
echo signed >>"$last"
