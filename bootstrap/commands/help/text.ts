/**
 * The text of `gateway --help`, so that the most asked question does not wait for a parser to load. A test holds it to
 * what the command tree says of itself (`gateway --help --help` asks the tree).
 * It must not hold anything else.
 *
 * @module
 */

/** What `gateway --help` prints, 80 columns. */
export const HELP_TEXT = `Usage: gateway [options] [command]

A whole Kubernetes cluster in one microVM, with a mutual-TLS endpoint on
127.0.0.1.

Options:
  -V, --version                        output the version number
  -h, --help                           display help for command

Commands:
  up [options] [args...]               boot an instance and stay until Ctrl-C or
                                       \`gateway down\` (the default command)
  down [options] [instance]            power the guest off cleanly
  rm [options] [instance]              remove an instance with its disk and keys
  suspend [options] [instance]         memory to disk; nothing runs until resume
  resume [options] [instance]          start a suspended instance from its saved
                                       memory
  build [options] [target] [payload]   build what is missing: kernel, root,
                                       cluster, images, golden, payload, libkrun
                                       or all
  exec [options] <command...>          run a command in the guest
  shell [options] [instance]           a login shell in the guest
  cp [options] <source> <destination>  copy files; one side is NAME:PATH
  kubectl [options] <args...>          kubectl against the instance's cluster
  status [options] [instance]          show the state of an instance
  list|ls [options]                    all instances
  logs [options] [instance]            the guest's console and the other logs
  port                                 list, add or remove port forwards of an
                                       instance
  snapshot                             keep and bring back whole states of an
                                       instance: memory, devices, disk
  fork [options] <source> <names...>   running clones of a running instance,
                                       with ports and certificates of their own
  host-service                         open ports of this host's loopback to an
                                       instance, and to nobody else
  use [options] <instance>             make an instance the active gateway of
                                       OpenShell's client
  deploy [options]                     the payload and its certificates into a
                                       cluster you have
  image                                bring container images into a running
                                       instance, and list them
  doctor [options]                     check this host, with a fix for each
                                       finding
  verify [options] [instance]          try in the guest what its kernel must be
                                       able to do
  provenance [options] [instance]      what an instance runs from: digests,
                                       origin, signatures
  keys                                 make a signing key, sign, and choose whom
                                       to trust
  completions <shell>                  print completions for bash, zsh or fish
  man                                  print the manual page
  help [command]                       display help for command

Example:
  gateway                  boot the instance \`default\`
  gateway COMMAND --help   options and an example of each command

`;
