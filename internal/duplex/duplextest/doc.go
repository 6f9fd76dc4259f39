// Package duplextest is the suite every loop that copies two streams must
// pass, on every kind of stream it is used with. Run takes the loop and makers
// of connected pairs; what a kind of stream cannot do (half-close, RST) is
// found by capability and its cases are skipped.
package duplextest
