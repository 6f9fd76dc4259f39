// Package script holds the stories of what a person types: each testdata file
// ends in .txtar and is a script of commands and what they print. Beside the
// commands of testscript there are:
//
//	exits CODE PROGRAM ARGS...   runs it; the exit code must be CODE
//	refused CODE TEXT PROGRAM ARGS...
//	                             the same, and standard error has an "error:" line
//	                             with TEXT, and nothing is on standard output
//	await FILE                   waits until the file is there
//	setenv NAME FILE             sets a variable to a file's content
//	hangup DIR                   sends SIGHUP to the daemon that holds this state directory
//	eventually TEXT PROGRAM ARGS...
//	                             repeats a question until the answer has the text;
//	                             with a ! before it, until it is answered without
package script
