#!/bin/zsh -f
# Types a line into a real, interactive zsh, presses Tab, and prints the line it then has.
# Arguments: the completion script, the line.
zmodload zsh/zpty
out=$(mktemp)
zpty shell zsh -f -i
zpty -w shell "PS1= RPROMPT= ; unsetopt zle_bracketed_paste beep; TERM=dumb
autoload -Uz compinit && compinit -D -u && source ${(q)1}
show() { print -r -- \"\$BUFFER\" >${(q)out}.new; mv ${(q)out}.new ${(q)out}; BUFFER= }
zle -N show; bindkey '^X' show; bindkey '^I' complete-word; print ready-\$((40 + 2))"
zpty -r shell seen '*ready-42*'
zpty -w -n shell "$2"$'\t'
# The shell reads keys in order: the widget runs when the completion is done.
zpty -w -n shell $'\x18'
for try in {1..100}; do
  [[ -s $out ]] && break
  sleep 0.1
done
cat $out
rm -f $out
zpty -d shell
