// Package durable keeps files in a directory that belongs to one daemon at a
// time: [Lock] takes the directory, [WriteFile] replaces a file so that a crash
// at any moment leaves the old or the new content, [ReadFile] reads one that may
// not be there. It gives no meaning to what it keeps; package state has its own
// ways, since it must survive more than a crash.
package durable
