// Package state keeps what a node must not forget: its key, its membership and
// the rules added while it ran. One private, versioned file in a directory that
// belongs to one daemon at a time. It gives no meaning to what it keeps.
//
//   - [Data] is the whole content.
//   - [Open] locks a directory and loads it; [Memory] is the store of an
//     ephemeral node. Both give a [Store].
//   - [Store.Update] changes the content and makes it durable.
//   - [LockedError] says that another daemon has the directory, [FileError]
//     that its file cannot be understood. Such a file is never written to.
//   - [DefaultDir] and [DefaultSocket] say where things are when nobody chose.
//
// # Files
//
//	DIR             0700, made when missing
//	DIR/state.json  0600, the content; see below
//	DIR/nexd.lock   0600, flock(2) held by the daemon, whose process id it holds
//	DIR/state.json.new  what was being written at a crash; harmless, reused
//
// The content is written to a new file, synced, renamed over the old one, and
// the directory synced: a crash at any moment leaves the old or the new state.
//
// A directory that exists keeps its mode, unless it is empty and ours: it might
// be one that others use. The files are private in any case.
//
// # Format
//
// One line of JSON:
//
//	{"format":"nexd state","version":1,"sha256":HEX,"data":{...}}
//
// sha256 is that of data without white space, so damage does not pass for
// content. A version is raised when an older program would lose something it
// must not; unknown members within a version are ignored.
package state
