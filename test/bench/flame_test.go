package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

const script = `nexd
	ffffffff81e01234 copy_user ([kernel.kallsyms])
	          4a3b2c gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*endpoint).Read (/bin/nexd)
	          401000 runtime.goexit.abi0 (/bin/nexd)

nexd
	          4a3b2d gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*endpoint).Read (/bin/nexd)
	          401000 runtime.goexit.abi0 (/bin/nexd)

nexd
	               0 [unknown] ([unknown])

`

func TestFlame(t *testing.T) {
	root, err := readStacks(strings.NewReader(script))
	if err != nil {
		t.Fatal(err)
	}
	exit := root.children["runtime.goexit.abi0"]
	if root.samples != 3 || exit == nil || exit.samples != 2 {
		t.Fatalf("%+v", root)
	}
	read := exit.children["tcp.(*endpoint).Read"]
	if read == nil || read.samples != 2 || read.kernel || read.children["copy_user"].samples != 1 || !read.children["copy_user"].kernel {
		t.Errorf("%+v", read)
	}
	var out strings.Builder
	root.svg(&out, `a < "b"`)
	for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
	}
	if !strings.Contains(out.String(), "<title>tcp.(*endpoint).Read 66.7%</title>") {
		t.Errorf("%s", out.String())
	}
	if _, err := readStacks(strings.NewReader("")); err == nil {
		t.Error("a graph of nothing")
	}
}
