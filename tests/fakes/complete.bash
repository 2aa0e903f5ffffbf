#!/bin/bash
# Completes a line as bash itself would, by the function that is registered for its first word.
# Arguments: the completion script, then the words, of which the last is being typed.
# shellcheck disable=SC1090,SC2034
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
spec=$(complete -p "$1")
function=${spec#*-F }
"${function%% *}"
printf '%s\n' "${COMPREPLY[@]}"
