// Package idle helps tests to see what many connections that do nothing cost a
// process: [Memory] is what it has in use, and a [Lot] keeps the other ends of
// the connections open, without a file of the process for each.
package idle
