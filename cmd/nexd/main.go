// Command nexd is the daemon: control service and nodes of a mesh.
package main

import (
	"context"
	"os"

	"nexd/internal/cli"
)

func main() {
	streams := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Nexd(context.Background(), os.Args[1:], streams, os.Getenv))
}
