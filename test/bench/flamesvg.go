package main

import (
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
)

// The picture's measures, in pixels.
const (
	flameWidth = 1400.0
	flameRow   = 16
	flameHead  = 24
	narrowest  = 1.4 // what is narrower is left out
)

// svg draws the graph, the outermost calls below. It is a picture and no
// program; names that do not fit are shown by pointing at them.
func (n *node) svg(w io.Writer, title string) {
	scale := flameWidth / float64(n.samples)
	height := n.depth(scale)*flameRow + 2*flameHead
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="monospace" font-size="11">`+"\n", flameWidth, height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="#fff"/><text x="4" y="16">%s; %d samples</text>`+"\n", html.EscapeString(title), n.samples)
	x := 4.0
	for _, l := range legend {
		fmt.Fprintf(w, `<rect x="%.0f" y="%d" width="12" height="12" fill="%s"/><text x="%.0f" y="%d">%s</text>`+"\n", x, flameHead, l.colour, x+16, flameHead+10, l.name)
		x += 40 + 7*float64(len(l.name))
	}
	n.draw(w, 0, height-flameRow, scale, n.samples)
	fmt.Fprintln(w, "</svg>")
}

func (n *node) depth(scale float64) int {
	deepest := 0
	for _, c := range n.children {
		if float64(c.samples)*scale >= narrowest {
			deepest = max(deepest, c.depth(scale))
		}
	}
	return deepest + 1
}

func (n *node) draw(w io.Writer, x float64, y int, scale float64, all int) {
	width := float64(n.samples) * scale
	fmt.Fprintf(w, `<g><title>%s %.1f%%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="#fff" stroke-width=".5"/>`,
		html.EscapeString(n.name), 100*float64(n.samples)/float64(all), x, y, width, flameRow, n.colour())
	if room := int(width-4) / 7; room >= 3 {
		name := n.name
		if len(name) > room {
			name = name[:room-1] + "…"
		}
		fmt.Fprintf(w, `<text x="%.1f" y="%d">%s</text>`, x+2, y+12, html.EscapeString(name))
	}
	fmt.Fprintln(w, "</g>")
	for _, c := range n.sorted() {
		if float64(c.samples)*scale >= narrowest {
			c.draw(w, x, y-flameRow, scale, all)
		}
		x += float64(c.samples) * scale
	}
}

// sorted are the children, the widest first.
func (n *node) sorted() []*node {
	var all []*node
	for _, c := range n.children {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *node) int {
		if a.samples != b.samples {
			return b.samples - a.samples
		}
		return strings.Compare(a.name, b.name)
	})
	return all
}

// legend says which code is which colour: the first whose package it is.
var legend = []struct {
	name, colour string
	packages     []string
}{
	{"kernel", "#f2b872", nil},
	{"cryptography", "#e58f8f", []string{"chacha20poly1305.", "poly1305.", "chacha20.", "blake2s.", "subtle."}},
	{"gVisor", "#9fc7e8", []string{"tcp.", "udp.", "ipv4.", "ipv6.", "stack.", "header.", "tcpip.", "buffer.", "checksum.", "fragmentation.", "waiter.", "gonet.", "raw.", "ports."}},
	{"wireguard-go", "#b7dca0", []string{"device.", "conn.", "ratelimiter.", "replay.", "tai64n."}},
	{"nexd", "#cdb6e6", []string{"netstack.", "proxy.", "bind.", "tunnel.", "duplex.", "relay.", "discovery.", "node.", "main."}},
	{"Go's runtime and library", "#d9d9d9", nil},
}

func (n *node) colour() string {
	if n.kernel {
		return legend[0].colour
	}
	for _, l := range legend[1:] {
		for _, p := range l.packages {
			if strings.HasPrefix(n.name, p) {
				return l.colour
			}
		}
	}
	return legend[len(legend)-1].colour
}
