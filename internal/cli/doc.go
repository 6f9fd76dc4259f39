// Package cli is the command line of both programs: it turns arguments,
// environment and config file into a configuration, runs what was asked for,
// and turns errors into a message, a hint and an exit code. What a command does
// stands elsewhere: nodes in package node, the service in package control, the
// daemon's socket in package localapi.
//
// Reading order:
//
//   - [Nexd] and [Nexctl] are the programs; program.go runs their command trees.
//   - [Error] is the only kind of error a person sees; errors.go makes it.
//   - settings.go: one setting, whether it is written as a flag, a variable or a
//     line of the config file; resolve.go: which of them wins, and where the value
//     came from. configfile.go reads the file, hoist.go lets flags stand before
//     the command.
//   - proxy.go, serve.go: the daemons; daemon.go has their signals, reload.go SIGHUP.
//   - nexctl.go and the files named after it: questions to the daemon and the service.
//   - output.go, human.go: tables, JSON and YAML.
//   - reference.go writes docs/cli.md from the commands themselves.
package cli
