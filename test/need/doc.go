// Package need is what a test needs of the machine it runs on.
//
//   - [Missing], [Programs] and [IPv6]: what a test cannot do without. On a
//     user's machine the test is skipped, saying what is missing; with
//     NEXD_TEST_REQUIRE set, as continuous integration has it, it fails.
//   - [Port]: a port to listen on later, or not at all.
//
// A test that the platform itself makes impossible (not Linux, -short, under the
// race detector) skips by itself.
package need
