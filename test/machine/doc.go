// Package machine is what a test asks of the machine it runs on.
//
//   - [Missing], [Need] and [NeedIPv6]: what a test cannot do without. On a
//     user's machine the test is skipped, saying what is missing; with
//     NEXD_TEST_REQUIRE set, as continuous integration has it, it fails.
//   - [FreePort]: a port to listen on later, or not at all.
//
// A test that the platform itself makes impossible (not Linux, -short, under the
// race detector) skips by itself.
package machine
