// Command nexctl asks and tells nexd and its control service.
package main

import (
	"context"
	"os"

	"nexd/internal/cli"
)

func main() {
	streams := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Nexctl(context.Background(), os.Args[1:], streams, os.Getenv))
}
