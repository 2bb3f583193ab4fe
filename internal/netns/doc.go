// Package netns makes networks for tests: a bridge, and hosts plugged into it, each in a network namespace of its own (Linux).
// Nothing in such a network reaches the computer's own, or any other, so a test may flood it.
//
//	func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }
//
//	b := netns.NewBridge(t)
//	h := b.Host("eth0", "10.0.0.1/24", "fe80::1/64")
//	err := h.Start(exec.Command(...)) // any program; it sees lo and eth0 only
//
// A namespace belongs to a thread, and to the processes that it starts. So a host is a process of its own: another program, or
// the test binary run again. Host.Do is for what a thread can do, such as opening a socket.
//
// It needs root or user namespaces: Main runs the tests of a user who is not root as root of a new user namespace. Where the kernel
// forbids namespaces, bridges or veth pairs, NewBridge skips the test and says why.
// Namespaces have no names and end with the last process and file in them, so a killed test leaves nothing behind, as long as
// its processes end with their standard input.
package netns
