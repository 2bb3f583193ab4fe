package log

import (
	"charkha/identity"
	"charkha/log/internal/classic"
)

// Sign makes a classic message and its id without storing it: the one after previous (the zero id for the first, whose
// sequence is 1). timestamp is in milliseconds since 1970, hmacKey that of the network or nil.
//
// It is for those who make whole feeds, such as generators of test data. A node publishes with Log.Publish, which knows what
// comes next: signing two messages with one sequence forks the feed.
func Sign(k identity.KeyPair, hmacKey *[32]byte, previous identity.MsgID, sequence int64, timestamp float64, content []byte) (value []byte, id identity.MsgID, err error) {
	value, err = classic.Encode(k, hmacKey, previous, sequence, timestamp, content)
	if err != nil {
		return nil, id, err
	}
	var s classic.Scanner
	m, err := s.Scan(value)
	if err != nil {
		return nil, id, err
	}
	return value, m.Key, nil
}
