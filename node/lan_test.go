package node

import "testing"

// A node that nobody else can reach is not announced on the network, and one that listens nowhere looks for others still.
func TestLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen []string
		want   bool
	}{
		{nil, false},
		{[]string{"net:127.0.0.1:0"}, true},
		{[]string{"net:[::1]:0", "net:localhost:0"}, true},
		{[]string{"net:127.0.0.1:0", "net:0.0.0.0:0"}, false},
		{[]string{"net::0"}, false},
	} {
		n, err := Open(Config{Dir: t.TempDir(), NetworkKey: testNetwork, Listen: c.listen})
		if err != nil {
			t.Fatal(err)
		}
		if got := n.loopbackOnly(); got != c.want {
			t.Errorf("%q: loopback only is %t", c.listen, got)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
